"""`onnxcam embed`: write a model that also returns where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxcam.cli.deployment import Destination, FormatName, PageImages, Runtime, preset_for
from onnxcam.cli.explainer_options import explainer_options_without
from onnxcam.cli.noise_options import noise_options
from onnxcam.cli.options import Fuse, LayerNames, Method, ModelFile, Settings
from onnxcam.cli.output import format_size, format_type, print_facts, say, weight_files
from onnxcam.cli.runtime_check import Runtimes, report_check, require_runtimes
from onnxcam.cli.written_model_options import Batch, ForceModel, Opset
from onnxcam.defaults import DEFAULT_METHOD

if TYPE_CHECKING:
    from onnxcam.embedding.write import EmbeddedModel

EPILOG = """\b
The new model runs in any ONNX runtime, without onnxcam. It takes what the model takes, and returns, besides the
model's own outputs:
  saliency   (N, H, W) float32, the raw map at the size of the input tensor
  layer_map  (N, h, w) float32, the raw map at the size of the layer
  overlay    (N, H, W, 3) uint8, the map drawn over the image
With --preprocess, it takes RGB images of any size as `pixels` (N, height, width, 3) uint8.
The noise is a part of the file, so the same image always has the same map.

\b
Examples:
  onnxcam embed model.onnx -o explained.onnx
  onnxcam embed model.onnx -o explained.onnx -m grad-cam -l 72 --outputs saliency,layer_map
  onnxcam embed model.onnx -o explained.onnx -n 10 --target-input --batch 1
  onnxcam embed model.onnx -o explained.onnx --preprocess imagenet --outputs saliency,overlay
  onnxcam embed model.onnx -o models --format triton
  onnxcam embed model.onnx -o explained.onnx --batch 1 --check openvino,opencv
  onnxcam inspect explained.onnx
"""

Out = Annotated[
    Path,
    Option("--out", "-o", metavar="OUT", help="The file to write; with --format, the folder."),
]
TargetText = Annotated[
    str,
    Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="What is explained: topK, which is found in the graph, a class index, a label, a contrast like "
        "281-282, or 'not cat' for the evidence against a class.",
    ),
]
TargetInput = Annotated[
    bool,
    Option(
        "--target-input",
        help="Add an input `target` (N,) int64: the class that is explained, or -1 for --target.",
    ),
]
Outputs = Annotated[
    str,
    Option(
        "--outputs",
        metavar="NAMES",
        help="What the file returns besides the model's own outputs, separated by commas: saliency, "
        "layer_map, overlay.",
    ),
]
PixelPreset = Annotated[
    str | None,
    Option(
        "--preprocess",
        metavar="NAME",
        help="Take pixels, and prepare them in the file: imagenet, tf, caffe, unit, raw, or auto: as the "
        "model's metadata or a file beside it describes, otherwise a default, which is reported.  [default: "
        "take what the model takes]",
        show_default=False,
    ),
]
Rounds = Annotated[
    int | None,
    Option(
        "--rounds",
        metavar="K",
        min=1,
        help="In how many rounds of a Loop, at most, the samples are run; 1 writes no Loop.  [default: a few "
        "at a time where one batch of all would be large]",
        show_default=False,
    ),
]
Small = Annotated[
    bool,
    Option(
        "--small/--fast",
        help="Store weights once, and compute what gradients read of them; or store them twice. Quantized "
        "models take a little longer to run if weights are stored once, others do not.",
    ),
]


@noise_options
@explainer_options_without("score", "preprocess", "device", "chunk", "no_cache")
def embed(
    model: ModelFile,
    out: Out,
    method: Method = DEFAULT_METHOD,
    layer: LayerNames = None,
    target: TargetText = "top1",
    target_input: TargetInput = False,
    *,
    noise_settings: dict[str, Any],
    settings: Settings = None,
    outputs: Outputs = "saliency",
    rounds: Rounds = None,
    batch: Batch = None,
    opset: Opset = None,
    small: Small = True,
    fuse: Fuse = "max",
    preprocess: PixelPreset = None,
    arguments: dict[str, Any],
    format_name: FormatName = None,
    runtime: Runtime = None,
    page_images: PageImages = None,
    check: Runtimes = None,
    force: ForceModel = False,
) -> None:
    """Write a model that also returns where it looked.

    The result is an ordinary .onnx file for any runtime: one run returns the answer and its explanation.
    """
    to = Destination(model, out, format_name, runtime, tuple(page_images or ()), force)
    to.check()
    require_runtimes(check, None if format_name == "web" else runtime)
    from onnxcam.cli import parsing
    from onnxcam.embedding.write import embed as embed_model

    preprocess = preset_for(preprocess, format_name)
    method_settings = parsing.method_settings(method, settings or [], noise_settings)
    embedded = embed_model(
        model,
        method,
        layer or ["auto"],
        target=target,
        target_input=target_input,
        outputs=outputs,
        takes_pixels=preprocess is not None,
        batch=batch,
        rounds=rounds,
        opset=opset,
        small=small,
        fuse=fuse,
        preprocess=preprocess or "auto",
        **arguments,
        **method_settings,
    )
    for notice in embedded.notices:
        say(f"note: {notice}", err=True)
    files, advice = to.save(embedded)
    _report(embedded, model, files)
    for sentence in advice:
        say(sentence)
    report_check(files[0], check, runtime)


def _report(embedded: EmbeddedModel, model: Path, files: tuple[Path, ...]) -> None:
    original = format_size([model, *weight_files(model)])
    explanation, count = embedded.explanation, embedded.explanation.samples
    say(
        f"{' and '.join(map(str, files))}: {format_size(files)} (the model: {original}), opset "
        f"{embedded.model.opset}"
    )
    passes = f"{count} sample{'s' * (count > 1)}" if count else "the image alone"
    rounds = f" in {explanation.rounds} rounds" if explanation.rounds > 1 else ""
    facts = [
        ("  method", explanation.method),
        ("  layer", ", ".join(explanation.layers) or "the image"),
        (
            "  target",
            f"{'the input `target`; -1: ' * explanation.takes_target}{explanation.target}",
        ),
        ("  runs", f"{passes}{rounds}"),
    ]
    graph = embedded.model.graph
    print_facts(
        [
            *facts,
            *((f"  in   {tensor.name}", format_type(tensor)) for tensor in graph.inputs),
            *((f"  out  {tensor.name}", format_type(tensor)) for tensor in graph.outputs),
        ]
    )

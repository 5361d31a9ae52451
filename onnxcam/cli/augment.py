"""`onnxcam augment`: write a model that also returns gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from onnxcam.cli.options import InputValues, ModelFile, ScoreTensor
from onnxcam.cli.output import format_size, format_type, print_facts, require_writable, say
from onnxcam.cli.runtime_check import NodeModules, Runtimes, report_check, require_runtimes
from onnxcam.cli.written_model_options import Batch, ForceModel, Opset
from onnxcam.errors import BlockedError, MissingRuleError, ModelError

if TYPE_CHECKING:
    from onnxcam.model.model import Model

EPILOG = """\b
The new model runs in any ONNX runtime, without onnxcam. It returns the outputs of the original model and,
for each layer, `activation/LAYER` and `gradient/LAYER`. Its extra input `seed` selects the score whose
gradient is computed: 1 for the class and 0 for the others (one row per image), or 1 and -1 for a contrast.

\b
Examples:
  onnxcam augment model.onnx -o model.grad.onnx
  onnxcam augment model.onnx -o model.grad.onnx --batch 1 --check openvino,opencv
  onnxcam augment model.onnx -l /layer3/Relu_output_0 -l /layer4/Relu_output_0 -o model.grad.onnx
"""


def augment(
    model: ModelFile,
    out: Annotated[Path, Option("--out", "-o", metavar="OUT.onnx", help="The file to write.")],
    layer: Annotated[
        list[str] | None,
        Option(
            "--layer",
            "-l",
            metavar="NAME|NUMBER",
            help="The name of a tensor, or a layer listed by `onnxcam layers`: its name, its number, a unique "
            "part of its name, or a pattern; repeat it for several.  [default: auto]",
            show_default=False,
        ),
    ] = None,
    output: ScoreTensor = None,
    inputs: InputValues = None,
    batch: Batch = None,
    opset: Opset = None,
    check: Runtimes = None,
    node_modules: NodeModules = None,
    force: ForceModel = False,
) -> None:
    """Write a model that also returns gradients.

    The result is an ordinary .onnx file for any runtime.
    """
    require_writable(model, out, force=force)
    require_runtimes(check, node_modules)
    from onnxcam.autodiff.rules import DEFAULT
    from onnxcam.cli.parsing import parse_inputs
    from onnxcam.explain.image_values import read_inputs
    from onnxcam.heads.dense_score import ensure_class_scores
    from onnxcam.model.chosen_opset import require_opset
    from onnxcam.model.image_input import image_input
    from onnxcam.model.load import load
    from onnxcam.rewrite.gradient import augment as augment_model
    from onnxcam.rewrite.hints import add_hint
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        original = load(model, read_inputs(model, parse_inputs(inputs or [])))
        original = _as_requested(original, batch, opset)
        scored_model, score = ensure_class_scores(original, output)
        try:
            names = _layer_names(original, layer or ["auto"], output)
            augmented = augment_model(scored_model, names, score.logits)
        except (BlockedError, MissingRuleError) as error:
            image = image_input(scored_model).name
            raise add_hint(error, scored_model, image, score.logits, DEFAULT) from error
    if opset is not None:
        require_opset(augmented, opset)
    files = augmented.save(out)
    say(f"{' and '.join(map(str, files))}: {format_size(files)}, opset {augmented.opset}")
    _print_signature(augmented, score.logits)
    report_check(out, check, node_modules)


def _as_requested(model: Model, batch: int | None, opset: int | None) -> Model:
    """The model with the batch and the opset that were chosen."""
    from onnxcam.model.chosen_opset import upgrade_to
    from onnxcam.model.fixed_batch import fix_batch

    upgraded = model if opset is None else upgrade_to(model, opset)
    return upgraded if batch is None else fix_batch(upgraded, batch)


def _layer_names(model: Model, requested: list[str], output: str | None) -> list[str]:
    """The names of the requested tensors and layers, with `auto` replaced by the automatic choice."""
    from onnxcam.rewrite.planner import layers
    from onnxcam.spatial.layer_names import find_layers

    all_layers, tensors = layers(model, output), model.graph.tensors()
    automatic = [layer.name for layer in all_layers if layer.automatic]
    if "auto" in requested and not automatic:
        raise ModelError(
            f"{model.name} has no automatic layer; choose one with --layer (see `onnxcam layers --all`)"
        )
    names: list[str] = []
    for text in requested:
        if text == "auto":
            names.append(automatic[0])
        elif text in tensors:
            names.append(text)
        else:
            names += [layer.name for layer in find_layers(all_layers, [text])]
    return list(dict.fromkeys(names))


def _print_signature(model: Model, score: str) -> None:
    from onnxcam.rewrite.gradient import SEED

    graph = model.graph
    print_facts([(f"  in   {tensor.name}", format_type(tensor)) for tensor in graph.inputs])
    print_facts([(f"  out  {tensor.name}", format_type(tensor)) for tensor in graph.outputs])
    seed = next(tensor for tensor in graph.inputs if tensor.name == SEED)
    say(
        f"the input {SEED!r}, {format_type(seed)}, is the cotangent of {score!r}: "
        "feed 1 for the class to explain and 0 for the others"
    )

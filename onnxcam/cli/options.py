"""Arguments and options, of which the signatures of commands are made; those of `explain` come last."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Argument, Option

ModelFile: TypeAlias = Annotated[
    Path, Argument(metavar="MODEL", help="An exported .onnx image model.")
]
ScoreTensor: TypeAlias = Annotated[
    str | None,
    Option(
        "--output",
        metavar="TENSOR",
        help="The tensor with one score per class; default: the output that most likely has them.",
    ),
]
Json: TypeAlias = Annotated[bool, Option("--json", help="Say it as JSON, for programs.")]
Images: TypeAlias = Annotated[
    list[Path],
    Argument(
        metavar="IMAGE...",
        help="Images, and folders of images (png, jpg, webp, avif, tif, … whatever Pillow reads).",
    ),
]
Recursive: TypeAlias = Annotated[
    bool, Option("--recursive", "-r", help="Look into the folders within folders too.")
]
Method: TypeAlias = Annotated[
    str, Option("--method", "-m", metavar="NAME", help="One of `onnxcam methods`.")
]
LayerNames: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--layer",
        "-l",
        metavar="NAME",
        help="A name of `onnxcam layers`, a unique part of one, or a pattern (*block3*); several are "
        "fused.  [default: auto]",
        show_default=False,
    ),
]
Targets: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="topK, a class index, a label, a contrast like 281-282, or 'not cat' for the evidence against "
        "a class; repeat it for one map each.  [default: top1]",
        show_default=False,
    ),
]
Labels: TypeAlias = Annotated[
    Path | None,
    Option(
        "--labels",
        metavar="FILE",
        help="Names of the classes: one per line, JSON (also class_to_idx and config.json), YAML, or CSV; "
        "default: those in the model, if any.",
    ),
]
Samples: TypeAlias = Annotated[
    int | None,
    Option("--samples", "-n", metavar="N", help="Noisy copies a picture (--set samples=N)."),
]
Noise: TypeAlias = Annotated[
    float | None,
    Option(
        "--noise", metavar="X", help="Their noise, as a part of the tensor's range (--set noise=X)."
    ),
]
Seed: TypeAlias = Annotated[
    int | None,
    Option("--seed", metavar="N", help="Of the noise: same seed, same map (--set seed=N)."),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A setting of the method; see `onnxcam methods`."),
]
ScoreKind: TypeAlias = Annotated[
    str,
    Option(
        "--score",
        metavar="logit|exp|probability",
        help="Explain the logit, its exponential, or the probability behind Softmax or Sigmoid.",
    ),
]
Channels: TypeAlias = Annotated[
    str | None, Option("--channels", metavar="3,7,10-20", help="Only these feature maps count.")
]
RegionOption: TypeAlias = Annotated[
    str | None,
    Option("--region", metavar="Y0:Y1,X0:X1", help="Only these neurons count: cells of the layer."),
]
Fuse: TypeAlias = Annotated[
    str, Option("--fuse", metavar="max|mean", help="How the maps of several layers become one.")
]
Preprocess: TypeAlias = Annotated[
    str,
    Option(
        "--preprocess",
        metavar="NAME",
        help="auto (what the model's metadata says, else a default, with a notice), imagenet, tf, caffe, "
        "unit, or raw.",
    ),
]
Size: TypeAlias = Annotated[
    str | None, Option("--size", metavar="H,W", help="Pixels, where the model takes any size.")
]
Mean: TypeAlias = Annotated[
    str | None,
    Option("--mean", metavar="A[,B,C]", help="What is subtracted, after dividing by --scale."),
]
Std: TypeAlias = Annotated[
    str | None, Option("--std", metavar="A[,B,C]", help="What it is divided by then.")
]
Scale: TypeAlias = Annotated[
    float | None,
    Option("--scale", metavar="X", help="What pixels of 0 to 255 are divided by first."),
]
Order: TypeAlias = Annotated[
    str | None, Option("--order", metavar="rgb|bgr", help="Of the model's channels.")
]
Fit: TypeAlias = Annotated[
    str | None,
    Option("--fit", metavar="crop|squash", help="Take the centre, or stretch the whole picture."),
]
DeviceName: TypeAlias = Annotated[
    str,
    Option(
        "--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; cuda+tf32: faster, less exact."
    ),
]
Chunk: TypeAlias = Annotated[
    int | None,
    Option(
        "--chunk",
        metavar="N",
        help="How many inputs are run at once; what is fastest is measured unless given.",
        min=1,
    ),
]
NoCache: TypeAlias = Annotated[
    bool,
    Option("--no-cache", help="Neither use nor keep models made ready (see `onnxcam doctor`)."),
]
Out: TypeAlias = Annotated[Path, Option("--out", "-o", metavar="DIR", help="Takes the results.")]
ColormapName: TypeAlias = Annotated[
    str, Option("--colormap", metavar="NAME", help="ember, jet or gray.")
]
Opacity: TypeAlias = Annotated[
    float,
    Option("--opacity", metavar="X", help="Of the colours over the picture, 0 to 1.", min=0, max=1),
]
SideBySide: TypeAlias = Annotated[
    bool, Option("--side-by-side", help="Draw the original beside the map.")
]
Caption: TypeAlias = Annotated[
    bool, Option("--caption/--no-caption", help="Write target, score and method below.")
]
JsonLines: TypeAlias = Annotated[
    bool, Option("--json", help="One JSON object a line on standard output, for programs.")
]
Quiet: TypeAlias = Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")]
SkipExisting: TypeAlias = Annotated[
    bool,
    Option(
        "--skip-existing",
        help="Skip images whose results, from an earlier run with the same settings, are there unchanged.",
    ),
]
Force: TypeAlias = Annotated[
    bool,
    Option(
        "--force", help="Overwrite files in the way of results, even if onnxcam did not write them."
    ),
]

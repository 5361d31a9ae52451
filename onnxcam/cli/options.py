"""The arguments and options of the commands; those of `explain` alone come last."""

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
        help="The tensor with one score per class; default: the output that most likely holds them.",
    ),
]
TaskName: TypeAlias = Annotated[
    str | None,
    Option(
        "--task",
        metavar="TASK",
        help="What the model is for, if the notices say something wrong: classification, detection, "
        "segmentation, sequence (text), embedding, regression, or image.",
        show_default=False,
    ),
]
HeadText: TypeAlias = Annotated[
    str | None,
    Option(
        "--head",
        metavar="HEAD",
        help="What the outputs are: a form of boxes (yolov8, yolox, ssd, …), or their names: "
        "boxes=NAME,scores=NAME[,objectness=NAME][,classes=AXIS].",
        show_default=False,
    ),
]
InputValues: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--input",
        metavar="NAME=VALUES",
        help="Values of an input of the model other than the image: numbers (sizes=640,480; rows end with ;), "
        "true, false, a file of numpy.save (mask=mask.npy), or an image (template=dog.jpg); repeat it for "
        "several.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, Option("--json", help="Print JSON.")]
OptionalModelFile: TypeAlias = Annotated[
    Path | None,
    Argument(metavar="MODEL", help="An exported .onnx image model.", show_default=False),
]
Images: TypeAlias = Annotated[
    list[Path] | None,
    Argument(
        metavar="IMAGE",
        show_default=False,
        help="Images or folders of images, in any format that Pillow reads (png, jpg, webp, avif, tif, …), or "
        "arrays that are preprocessed already (npy, npz, npz:key).",
    ),
]
Photo: TypeAlias = Annotated[
    Path | None,
    Argument(
        metavar="IMAGE",
        show_default=False,
        help="An image whose answers under each preset are listed.",
    ),
]
Recursive: TypeAlias = Annotated[bool, Option("--recursive", "-r", help="Also search subfolders.")]
Result: TypeAlias = Annotated[
    Path | None,
    Option(
        "--from",
        metavar="RESULT.json",
        help="Repeat this result: what is not set here (model, image, target, layer, settings, …) is as it was "
        "then.",
        show_default=False,
    ),
]
Method: TypeAlias = Annotated[
    str,
    Option(
        "--method", "-m", metavar="NAME", help="One of the methods listed by `onnxcam methods`."
    ),
]
LayerNames: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--layer",
        "-l",
        metavar="NAME|NUMBER",
        help="A layer listed by `onnxcam layers`: its name, its number, a unique part of its name, or a "
        "pattern (*block3*); repeat it, or separate them by commas, to fuse the maps of several layers.  "
        "[default: auto]",
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
        "a class; where the model scores boxes, pixels or steps, CLASS@box:2, CLASS@box:x0,y0,x1,y1, "
        "CLASS@pixel:x,y, CLASS@mask:FILE, CLASS@segment, CLASS@step:5 or CLASS@all, or 'all' for every "
        "detection, region or character; similar:REFERENCE for embeddings, value:3 for regressions; repeat it "
        "to get one map per target.  [default: top1]",
        show_default=False,
    ),
]
MinScore: TypeAlias = Annotated[
    float,
    Option(
        "--min-score",
        metavar="P",
        help="With --target all: the smallest probability of a detection, region or character.",
    ),
]
MaxTargets: TypeAlias = Annotated[
    int,
    Option(
        "--max",
        metavar="N",
        help="With --target all: the largest number of maps of an image.",
        min=1,
    ),
]
Labels: TypeAlias = Annotated[
    Path | None,
    Option(
        "--labels",
        metavar="FILE",
        help="File with the names of the classes: one per line, JSON (including class_to_idx and "
        "config.json), YAML, or CSV; default: the names in the model's metadata or in a config.json beside it.",
    ),
]
Samples: TypeAlias = Annotated[
    int | None,
    Option(
        "--samples",
        "-n",
        metavar="N",
        help="Number of noisy copies of each image (--set samples=N).",
    ),
]
Noise: TypeAlias = Annotated[
    float | None,
    Option(
        "--noise",
        metavar="X",
        help="Standard deviation of the noise, as a fraction of the value range of the input tensor "
        "(--set noise=X).",
    ),
]
Seed: TypeAlias = Annotated[
    int | None,
    Option(
        "--seed",
        metavar="N",
        help="Seed of the noise; the same seed gives the same map (--set seed=N).",
    ),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the method (see `onnxcam methods`); repeat it for several.",
    ),
]
ScoreKind: TypeAlias = Annotated[
    str,
    Option(
        "--score",
        metavar="logit|exp|probability",
        help="Explain the logit, its exponential, or the probability after Softmax or Sigmoid.",
    ),
]
Channels: TypeAlias = Annotated[
    str | None,
    Option(
        "--channels",
        metavar="3,7,10-20",
        help="Use only these feature maps of the layer; @FILE.scan.json: those that a scan marked as unusual.",
    ),
]
RegionOption: TypeAlias = Annotated[
    str | None,
    Option(
        "--region",
        metavar="Y0:Y1,X0:X1",
        help="Use only these cells of the layer: rows Y0 to Y1-1, columns X0 to X1-1; @FILE.scan.json: "
        "those that a scan marked as unusual.",
    ),
]
TopChannels: TypeAlias = Annotated[
    int,
    Option(
        "--top-channels",
        metavar="N",
        help="Also draw the N feature maps that weigh most in the map, with their shares and weights.",
        min=0,
        show_default=False,
    ),
]
Fuse: TypeAlias = Annotated[
    str, Option("--fuse", metavar="max|mean", help="How to combine the maps of several layers.")
]
Preprocess: TypeAlias = Annotated[
    str,
    Option(
        "--preprocess",
        metavar="NAME",
        help="imagenet, tf, caffe, unit, raw, or auto: as the model's metadata or a file beside it describes, "
        "otherwise a default, which is reported.",
    ),
]
Size: TypeAlias = Annotated[
    str | None,
    Option("--size", metavar="H,W", help="Input size in pixels, if the model accepts any size."),
]
Mean: TypeAlias = Annotated[
    str | None,
    Option(
        "--mean", metavar="A[,B,C]", help="Per-channel mean, subtracted after dividing by --scale."
    ),
]
Std: TypeAlias = Annotated[
    str | None,
    Option(
        "--std", metavar="A[,B,C]", help="Per-channel standard deviation, applied after --mean."
    ),
]
Scale: TypeAlias = Annotated[
    float | None,
    Option("--scale", metavar="X", help="Divisor of the pixel values (0 to 255), applied first."),
]
Order: TypeAlias = Annotated[
    str | None, Option("--order", metavar="rgb|bgr", help="Order of the model's color channels.")
]
Fit: TypeAlias = Annotated[
    str | None,
    Option(
        "--fit",
        metavar="NAME",
        help="crop (the center), squash (the entire image), squash-crop (its center), letterbox (all of it in "
        "its proportions, with padding around it), or letterbox-corner (with padding below or on the right).",
    ),
]
Pad: TypeAlias = Annotated[
    str | None,
    Option(
        "--pad", metavar="A[,B,C]", help="Pixels of the padding, 0 to 255.  [default: gray, 114]"
    ),
]
DeviceName: TypeAlias = Annotated[
    str,
    Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N, or cuda+tf32 (faster, less exact).",
    ),
]
Chunk: TypeAlias = Annotated[
    int | None,
    Option(
        "--chunk",
        metavar="N",
        help="Number of inputs to run at once; default: the fastest number, found by measurement.",
        min=1,
    ),
]
NoCache: TypeAlias = Annotated[
    bool,
    Option(
        "--no-cache",
        help="Do not use the cache of rewritten models (see `onnxcam doctor`).",
    ),
]
Out: TypeAlias = Annotated[Path, Option("--out", "-o", metavar="DIR", help="Output folder.")]
ColormapName: TypeAlias = Annotated[
    str | None,
    Option(
        "--colormap",
        metavar="NAME",
        help="ember, jet, or gray; for methods whose maps are signed (evidence for and against): polar or "
        "redblue.  [default: ember or polar]",
        show_default=False,
    ),
]
Opacity: TypeAlias = Annotated[
    float,
    Option("--opacity", metavar="X", help="Opacity of the heat map over the image.", min=0, max=1),
]
LongestSide: TypeAlias = Annotated[
    int,
    Option(
        "--longest-side",
        metavar="PIXELS",
        help="Longest side of the overlay; larger images are reduced to it.",
        min=1,
        max=8192,
    ),
]
SideBySide: TypeAlias = Annotated[
    bool, Option("--side-by-side", help="Draw the original image next to the map.")
]
Caption: TypeAlias = Annotated[
    bool,
    Option("--caption/--no-caption", help="Write the target, score and method below the image."),
]
JsonLines: TypeAlias = Annotated[
    bool, Option("--json", help="Print one JSON object per line on standard output.")
]
Quiet: TypeAlias = Annotated[bool, Option("--quiet", "-q", help="Print errors only.")]
SkipExisting: TypeAlias = Annotated[
    bool,
    Option(
        "--skip-existing",
        help="Skip images that already have unchanged results from a run with the same settings.",
    ),
]
Force: TypeAlias = Annotated[
    bool,
    Option("--force", help="Overwrite existing files, even if onnxcam did not write them."),
]

"""The arguments of commands that look at one layer for many images: `concepts` and `scan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Argument, Option

ManyImages: TypeAlias = Annotated[
    list[Path],
    Argument(
        metavar="IMAGE...",
        help="Images or folders of images, or arrays that are preprocessed already (npy, npz, npz:key).",
    ),
]
LayerName: TypeAlias = Annotated[
    str,
    Option(
        "--layer",
        "-l",
        metavar="NAME|NUMBER",
        help="A layer listed by `onnxcam layers`: its name, its number, a unique part of its name, or a "
        "pattern.",
    ),
]

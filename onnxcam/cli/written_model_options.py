"""The options of commands that write a model: `augment` and `embed`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from typer import Option

Batch: TypeAlias = Annotated[
    int | None,
    Option(
        "--batch",
        metavar="N",
        min=1,
        help="Take exactly N images at once: no sizes are left to be computed in the graph, which more "
        "runtimes accept.  [default: as the model]",
        show_default=False,
    ),
]
Opset: TypeAlias = Annotated[
    int | None,
    Option(
        "--opset",
        metavar="N",
        help="The opset of the file, if that of the model is older.  [default: as new as needed]",
        show_default=False,
    ),
]
ForceModel: TypeAlias = Annotated[
    bool, Option("--force", help="Overwrite what --out names, if it exists.")
]

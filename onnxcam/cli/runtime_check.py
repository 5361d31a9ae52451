"""`--check RUNTIME,…` of commands that write models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Exit, Option

from onnxcam.cli.errors import EXIT_ERROR
from onnxcam.cli.output import print_table, say
from onnxcam.errors import SettingError

Runtimes: TypeAlias = Annotated[
    str | None,
    Option(
        "--check",
        metavar="RUNTIME,…",
        help="Run the file on these runtimes, if they are installed, on random inputs, and compare all outputs "
        "with those of ONNX Runtime: onnxruntime, openvino, opencv, tract, onnx-reference, node; or all. Exit "
        "code 2 if one refuses it, or if floats differ by more than 0.1 % of the largest.",
        show_default=False,
    ),
]
NodeModules: TypeAlias = Annotated[
    Path | None,
    Option(
        "--runtime",
        metavar="NODE_MODULES",
        help="The folder `node_modules` with the npm package onnxruntime-node, which the runtime `node` needs.",
        show_default=False,
    ),
]


def require_runtimes(runtimes: str | None, node_modules: Path | None = None) -> None:
    """Before anything is written: UnknownNameError for a runtime that does not exist, SettingError for npm
    packages that none of them reads.
    """
    if node_modules is not None and not {"node", "all"} & set(_names(runtimes or "")):
        raise SettingError(
            "--runtime is for --check node (of `embed`, also for --format web); leave it out, or add one"
        )
    if runtimes is not None:
        from onnxcam.portability.runtimes import choose_runtimes

        choose_runtimes(_names(runtimes))


def _names(runtimes: str) -> list[str]:
    return [name.strip() for name in runtimes.split(",") if name.strip()]


def report_check(path: Path, runtimes: str | None, node_modules: Path | None = None) -> None:
    """Run a file on runtimes and print the differences; exit code 2 if one of them does not agree."""
    if runtimes is None:
        return
    from onnxcam.portability.check import check_runtimes

    rows = check_runtimes(path, _names(runtimes), node_modules=node_modules)
    table = [
        (
            row.runtime,
            row.version or "-",
            row.output or "-",
            "-" if math.isnan(row.difference) else f"{row.difference:.1e}",
            {True: "ok", False: "wrong", None: "-"}[row.is_right] if not row.note else row.note,
        )
        for row in rows
    ]
    print_table(("runtime", "version", "output", "difference", "result"), table)
    wrong = sorted({row.runtime for row in rows if row.is_right is False})
    if wrong:
        say(f"error: {path}: not right on {', '.join(wrong)}", err=True)
        raise Exit(EXIT_ERROR)

"""`onnxcam doctor`: check this installation and its devices."""

from __future__ import annotations

from typing import Any

from typer import Exit

from onnxcam.cli.errors import EXIT_ERROR
from onnxcam.cli.options import Json
from onnxcam.cli.output import print_facts, print_json, say

EPILOG = """\b
Exit code 0 if the self-test passes on the device that `--device auto` selects, 2 if not.

\b
Examples:
  onnxcam doctor
  onnxcam doctor --json
"""


def doctor(json: Json = False) -> None:
    """Check this installation and its devices.

    Reports versions, providers, devices and the cache, and whether a self-test passes. If a GPU is not used,
    the report explains why and how to fix it.
    """
    from onnxcam.installation import examine_installation

    report = examine_installation()
    if json:
        print_json(report)
    else:
        _print_report(report)
    if not report["healthy"]:
        raise Exit(EXIT_ERROR)


def _print_report(report: dict[str, Any]) -> None:
    print_facts(list(report["versions"].items()))
    say()
    print_facts(
        [
            ("available providers", ", ".join(report["providers"])),
            ("CUDA devices", report["cuda_devices"]),
            *(
                (f"self-test on {test['device']}", _format_outcome(test))
                for test in report["devices"]
            ),
            ("--device auto selects", report["auto"]),
            ("cache", _format_cache(report["cache"])),
            ("ONNX Runtime telemetry", _format_telemetry(report["telemetry"])),
            *(("note", notice) for notice in report["notices"]),
        ]
    )


def _format_cache(cache: dict[str, Any]) -> str:
    used, limit = (f"{size / 1e6:.0f} MB" for size in (cache["bytes"], cache["limit"]))
    if cache["problem"]:
        return f"{cache['folder']}: not used, because {cache['problem']}; set ONNXCAM_CACHE to another folder"
    return f"{cache['folder']}: {used} of at most {limit}; delete the folder to empty it"


def _format_telemetry(telemetry: dict[str, Any]) -> str:
    return f"{'off' if telemetry['disabled'] else 'ON'} ({telemetry['setting']})"


def _format_outcome(test: dict[str, Any]) -> str:
    if test["passed"]:
        return "passed"
    return f"{'FAILED' if test['usable'] else 'not available'}: {test['error']}"

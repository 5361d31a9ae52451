"""The process in which a runtime runs a file: `python -m onnxcam.portability.child JOB.json`.

Some runtimes end the process that a graph displeases. They write into its standard output, too, so results go
into a file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from onnxcam.errors import first_line
from onnxcam.portability.foreign_runtime import Task
from onnxcam.portability.runtimes import RUNTIMES


def main(job_file: Path) -> None:
    """Run a job (see `check.py`) and write `results.npz` and `report.json` next to it."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    folder = job_file.parent
    with np.load(folder / "feeds.npz") as arrays:
        feeds = dict(zip(job["inputs"], arrays.values(), strict=True))
    node_modules = job["node_modules"] and Path(job["node_modules"])
    task = Task(Path(job["model"]), feeds, tuple(job["outputs"]), node_modules)
    report = {"version": "", "outputs": [], "refusal": ""}
    try:
        results, report["version"] = RUNTIMES[job["runtime"]].run(task)
        np.savez(folder / "results.npz", *results.values())
        report["outputs"] = [*results]
    except Exception as error:  # noqa: BLE001  whatever a runtime raises
        report["refusal"] = f"{type(error).__name__}: {first_line(error)}"
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

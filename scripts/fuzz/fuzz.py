#!/usr/bin/env python3
"""Hostile and damaged inputs for onnxcam, and how each ends.

    python -m scripts.fuzz                               # 20,000 cases, under an hour on two cores
    python -m scripts.fuzz --cases 500 --kinds attributes,images
    python -m scripts.fuzz --case attributes:417         # one of them again, with its traceback

A seed and KIND:NUMBER always give the same case. Results are lines of JSON in OUT/results.jsonl; a second start
continues after the last one. One process runs the cases; it is restarted when it dies, and killed when a case
takes more than 20 seconds. Cases that end neither right nor refused are listed, and their files are kept under
OUT/KIND-NUMBER; the exit code is then 1.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.fuzz.case import FINE, OUTCOMES, failure_signature
from scripts.fuzz.kinds import KINDS, names
from scripts.fuzz.worker import DiedError, HungError, Worker

SHOWN = 100  # distinct failures


def main(
    cases: Annotated[int, typer.Option(help="How many cases, of all kinds together.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed gives other cases.")] = 0,
    kinds: Annotated[str, typer.Option(help=f"Only these of {', '.join(KINDS)}.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for results and files of failures.")] = Path(
        "fuzz-out"
    ),
    case: Annotated[str, typer.Option(metavar="KIND:NUMBER", help="Run only this one.")] = "",
    seconds: Annotated[
        float, typer.Option(help="Stop after this time; the next start continues.")
    ] = 3600.0,
) -> None:
    """Run the cases that have no result yet, and count how they ended."""
    chosen = kinds.split(",") if kinds else list(KINDS)
    if unknown := set(chosen) - KINDS.keys():
        raise typer.BadParameter(
            f"unknown kind {', '.join(unknown)}; expected some of {', '.join(KINDS)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    worker = Worker(seed, out / "worker.log")
    if case:
        result = result_of(case, worker, out)
        print(result.pop("trace", ""), json.dumps(result, indent=2), sep="\n")
        raise typer.Exit(result["outcome"] not in FINE)
    results = run(list(islice(names(chosen), cases)), worker, out, time.monotonic() + seconds)
    report(results)
    raise typer.Exit(any(result["outcome"] not in FINE for result in results))


def run(chosen: list[str], worker: Worker, out: Path, until: float) -> list[dict[str, Any]]:
    """The results of all cases, including those of earlier starts."""
    path = out / "results.jsonl"
    known = _stored_results(path, worker.seed)
    with path.open("a") as file:
        for name in chosen:
            if name in known:
                continue
            if time.monotonic() > until:
                break
            result = result_of(name, worker, out)
            result.pop("trace", None)
            known[name] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
    worker.end()
    return [known[name] for name in chosen if name in known]


def _stored_results(path: Path, seed: int) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    results = [json.loads(line) for line in lines if line.endswith("}")]
    return {result["case"]: result for result in results if result["seed"] == seed}


def result_of(name: str, worker: Worker, out: Path) -> dict[str, Any]:
    """Run a case; if it does not end well, its files are kept."""
    try:
        ending = worker.run(name)
    except (DiedError, HungError) as error:
        outcome = "crash" if isinstance(error, DiedError) else "hang"
        if worker.is_in_plain_run:
            ending = {"outcome": "runtime alone"}
        else:
            ending = {"outcome": "runtime too" if _dies_alone(name, worker) else outcome}
        ending |= {"detail": f"{outcome}: {error}", "what": ""}
    result = {"case": name, "seed": worker.seed, **ending}
    folder = out / name.replace(":", "-")
    if result["outcome"] not in FINE:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(DiedError, HungError):  # a case may die while it is made
            result["what"] = worker.run(name, "store", folder)["what"]
        (folder / "result.json").write_text(json.dumps(result, indent=2))
    return result


def _dies_alone(name: str, worker: Worker) -> bool:
    """Whether ONNX Runtime hangs or dies when it runs the plain model."""
    try:
        worker.run(name, "plain")
    except (DiedError, HungError):
        return True
    return False


def report(results: list[dict[str, Any]]) -> None:
    """The table of outcomes by kind, and every distinct failure."""
    counts = Counter((result["case"].partition(":")[0], result["outcome"]) for result in results)
    kinds, seen = (
        dict.fromkeys(kind for kind, _ in counts),
        [o for o in OUTCOMES if any(o == b for _, b in counts)],
    )
    print("| kind | " + " | ".join(seen) + " | all |", "|---" * (len(seen) + 2) + "|", sep="\n")
    for kind in kinds:
        row = [counts[kind, outcome] for outcome in seen]
        print(f"| {kind} | " + " | ".join(map(str, row)) + f" | {sum(row)} |")
    total = [sum(counts[kind, outcome] for kind in kinds) for outcome in seen]
    print("| all | " + " | ".join(map(str, total)) + f" | {sum(total)} |\n")
    for outcome in seen:
        print(f"{outcome}: {OUTCOMES[outcome]}")
    for (outcome, frame, _), similar in list(failures(results).items())[:SHOWN]:
        print(f"\n{outcome} x{len(similar)}  {frame}\n    {similar[0]['detail'][:300]}")
        print(
            "    "
            + "; ".join(f"{result['case']} ({result['what'][:110]})" for result in similar[:3])
        )


def failures(results: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Cases that did not end well, grouped by what they have in common, the most frequent first."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        if result["outcome"] not in FINE:
            key = (result["outcome"], result.get("frame", ""), failure_signature(result["detail"]))
            groups.setdefault(key, []).append(result)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))

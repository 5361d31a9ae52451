"""How long every method takes, next to the packages that have it and to a forward pass of the model.

    python -m scripts.bench.methods                             # eleven minutes on two idle cores
    python -m scripts.bench.methods --methods lrp,rise --rounds 1 --samples 4

Prints a line for every method, then a table in Markdown. Contestants run in processes of their own and take
turns, as in `bench`: a round of each, then the next round. They get the same image and the same number of
samples; where a package runs samples together, it does so at its fastest of a few batch sizes, and so do we.
Methods that refuse the first network are measured on the next one. A peer that fails is listed with its error.

Needs the extra `bench`, and of the packages in `peers` those that are to be compared.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from scripts.bench.bench import LIMIT, Worker
from scripts.bench.models import (
    CLASSES,
    NAMES,
    SHAPE,
    BenchLayer,
    bench_layers,
    export,
    narrow_layer,
    torch_model,
)
from scripts.bench.peers import packages_with

NETS = ("ResNet-18", "ViT-B/16")  # the second one has attention
OURS, PLAIN = "onnxcam tuned", "plain"
SAMPLES = 16
MORE_MASKS, FEWER_PER_CHANNEL = (
    4,
    8,
)  # times as many masks as samples, and as few runs for every channel
PER_CHANNEL = ("score-cam", "ss-cam", "is-cam", "ablation-cam")
SETTINGS: dict[str, Any] = {"window": 64, "stride": 32, "segments": "grid", "superpixels": 49}
KERNEL = {"kernel": "cell"}  # of recipro-cam, as OpenVINO XAI has it
WHERE = {
    **dict.fromkeys(PER_CHANNEL, "narrow"),
    **dict.fromkeys(("smooth-grad-cam++", "shapley-cam"), "dependent"),
}
TARGET, ONE_PASS = 1.5, 1.3  # the fastest peer's time / ours; ours / a forward pass
KEPT = 0.15  # of the time, for the last network
LONGEST, PATIENCE = 90.0, 8.0  # seconds until a contestant is ready, and of its runs in all


@dataclass(frozen=True)
class Network:
    """A network that is exported, its layers, and its plain model as a contestant."""

    name: str
    job: dict[str, Any]
    layers: dict[str, BenchLayer]
    plain: Worker


@dataclass
class Timing:
    """Median seconds of one method. `failed` says why peers, or our own run, have none."""

    method: str
    network: str
    where: str
    settings: dict[str, Any]
    is_one_pass: bool
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> float:
        return self.seconds.get(OURS, float("nan"))

    @property
    def peers(self) -> dict[str, float]:
        """By name, the fastest first."""
        others = {name: time for name, time in self.seconds.items() if name not in (OURS, PLAIN)}
        return dict(sorted(others.items(), key=lambda pair: pair[1]))

    @property
    def ratio(self) -> float | None:
        """The fastest peer's time / ours."""
        return min(self.peers.values()) / self.ours if self.peers and OURS in self.seconds else None

    @property
    def passes(self) -> float:
        """Our time / a forward pass of the plain model."""
        return self.ours / self.seconds[PLAIN]


def chosen_settings(method: str, samples: int = SAMPLES) -> dict[str, Any]:
    """Few samples, of the settings that the method has."""
    from onnxcam.methods import METHODS

    known, masks = METHODS[method].settings, MORE_MASKS * samples
    count = samples
    if method in PER_CHANNEL:
        count = max(1, samples // FEWER_PER_CHANNEL)
    elif "segments" in known:
        count = masks
    wanted = {"samples": count, "steps": count, "masks": masks, **SETTINGS, **KERNEL}
    return {name: value for name, value in wanted.items() if name in known}


def layer_of(method: str, network: Network) -> BenchLayer | None:
    """The last layer unless `WHERE` says otherwise; None for a method without a layer."""
    from onnxcam.methods import METHODS

    if not METHODS[method].has_layer:
        return None
    return network.layers.get(WHERE.get(method, "last")) or network.layers["middle"]


def is_one_pass(method: str, where: str) -> bool:
    """Whether nothing but one forward pass must run: at the last layer, the gradient does not depend on the
    image.
    """
    from onnxcam.methods import METHODS

    chosen = METHODS[method]
    is_constant = chosen.has_layer and where == "last"
    return chosen.sampler.draw is None and (not chosen.needs_gradient or is_constant)


def prepare_network(name: str, folder: Path, threads: int) -> Network:
    model, path = torch_model(NAMES[name]), folder / f"{NAMES[name]}.onnx"
    export(model, path)
    layers = {layer.where: layer for layer in bench_layers(model, path)}
    layers["narrow"] = narrow_layer(model, path)
    job = {"path": str(path), "shape": SHAPE, "classes": CLASSES, "model": NAMES[name]}
    job |= {"device": "cpu", "threads": threads, "limit": LONGEST}
    plain = Worker(job | {"contestant": PLAIN, "passes": 1, "limit": LIMIT})
    return Network(name, job, layers, plain)


def ready_worker(job: dict[str, Any]) -> Worker:
    """A contestant whose time to get ready is limited, but not how long it then waits for others."""
    worker = Worker(job)
    worker.limit.cancel()
    return worker


def measure(method: str, network: Network, rounds: int, samples: int = SAMPLES) -> Timing:
    """All contestants in turns."""
    layer, settings = layer_of(method, network), chosen_settings(method, samples)
    where = layer.where if layer else "image"
    timing = Timing(method, network.name, where, settings, is_one_pass(method, where))
    job = network.job | {"method": method, "settings": settings} | (asdict(layer) if layer else {})
    workers = {OURS: ready_worker(job | {"contestant": OURS})}
    if workers[OURS].is_alive:
        for name in packages_with(method):
            workers[name] = ready_worker(job | {"contestant": name})
        first = len(network.plain.times)
        for _ in range(rounds):
            network.plain.run()
            for worker in workers.values():
                if worker.is_alive and sum(worker.times) < PATIENCE:
                    worker.run()
        timing.seconds[PLAIN] = median(network.plain.times[first:])
    for name, worker in workers.items():
        _, why = worker.end()
        if why or not worker.times:
            timing.failed[name] = why or "died"
        else:
            timing.seconds[name] = median(worker.times)
    return timing


def format_line(timing: Timing) -> str:
    times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in timing.seconds.items())
    failed = "".join(f"; {name} failed: {why}" for name, why in timing.failed.items())
    return f"{timing.method:24} {timing.network:10} {timing.where:10} ms: {times}{failed}"


def table(timings: Iterable[Timing]) -> Iterator[str]:
    """In Markdown. Ratios that miss their target are bold."""
    yield "| method | network, layer | settings | ours, ms | peers, ms | fastest peer / ours | ours / pass |"
    yield "|---|---|---|---|---|---|---|"
    for timing in timings:
        place = f"{timing.network}, {timing.where}"
        settings = ", ".join(f"{name} {value}" for name, value in timing.settings.items())
        if OURS in timing.failed:
            yield f"| `{timing.method}` | {place} | {settings} | {timing.failed[OURS]} | | | |"
            continue
        peers = ", ".join(f"{name} {1000 * time:.1f}" for name, time in timing.peers.items())
        failed = "".join(f"; {name}: {why}" for name, why in timing.failed.items())
        ratio, passes = timing.ratio, f"{timing.passes:.2f}"
        faster = "" if ratio is None else f"{ratio:.2f}" if ratio >= TARGET else f"**{ratio:.2f}**"
        if timing.is_one_pass:
            passes = f"{passes if timing.passes <= ONE_PASS else f'**{passes}**'} (one pass)"
        yield (
            f"| `{timing.method}` | {place} | {settings} | {1000 * timing.ours:.1f} | {peers}{failed} | "
            f"{faster} | {passes} |"
        )


def measure_all(
    methods: list[str], networks: list[str], rounds: int, samples: int, threads: int, budget: float
) -> Iterator[Timing]:
    """The methods on the first network that they do not refuse; none is begun after `budget` seconds, a part of
    which is kept for the last network.
    """
    start = time.monotonic()
    remaining = methods
    with tempfile.TemporaryDirectory() as folder:
        for last, name in zip([*[False] * (len(networks) - 1), True], networks, strict=True):
            if not remaining:
                break
            network, refused = prepare_network(name, Path(folder), threads), []
            for method in remaining:
                if time.monotonic() - start > (budget if last else (1 - KEPT) * budget):
                    print(f"no time left for {method}", flush=True)
                    continue
                timing = measure(method, network, rounds, samples)
                if OURS in timing.failed and not last:
                    print(f"{name} refuses: {timing.failed[OURS]}", flush=True)
                    refused.append(method)
                else:
                    yield timing
            network.plain.end()
            remaining = refused


def order(method: str) -> tuple[bool, bool]:
    """First those that a network may refuse for what it has not, such as attention; then those with peers."""
    from onnxcam.methods import METHODS
    from onnxcam.methods.place import PLACES

    return METHODS[method].place not in PLACES, not packages_with(method)


def main(
    methods: Annotated[str, typer.Option(help="Commas between; all if empty.")] = "",
    networks: Annotated[str, typer.Option(help="Names of `models.NAMES`.")] = ",".join(NETS),
    rounds: Annotated[int, typer.Option(help="Runs of each contestant.", min=1)] = 3,
    samples: Annotated[
        int, typer.Option(help="Of sampling methods; masks: four times as many.")
    ] = SAMPLES,
    threads: Annotated[int, typer.Option(help="Of each contestant; 0: one a core.")] = 0,
    budget: Annotated[float, typer.Option(help="Seconds after which no method is begun.")] = 600,
) -> None:
    from onnxcam.methods import METHODS

    chosen = [name.strip() for name in methods.split(",") if name.strip()] or [*METHODS]
    if unknown := [name for name in chosen if name not in METHODS]:
        raise typer.BadParameter(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    chosen.sort(key=order)
    names = [name.strip() for name in networks.split(",")]
    timings = []
    cores = threads or len(os.sched_getaffinity(0))
    for timing in measure_all(chosen, names, rounds, samples, cores, budget):
        timings.append(timing)
        print(format_line(timing), flush=True)
    print("", *table(timings), sep="\n")


if __name__ == "__main__":
    typer.run(main)

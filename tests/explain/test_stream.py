"""Long lists of images: `Explainer.stream`, and what it has in common with a call."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam import Explainer
from onnxcam.errors import ImageError, OnnxcamError, RunError, SettingError, TargetError
from onnxcam.explain.pipeline import AHEAD, BLOCK
from onnxcam.runtime.session import Session
from tests.support.limits import run_limited
from tests.support.nets import ANY_SIZE, DEEP, random_images

COUNT = 2 * BLOCK + 5


def make_explainer(net: Any = DEEP, method: str = "grad-cam", **options: Any) -> Explainer:
    options = {"layer": "features", "device": "cpu", "preprocess": "unit"} | options
    return Explainer(net.content(), method, cache=False, **options)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(3)
    files = [folder / f"{number:02}.png" for number in range(COUNT)]
    for number, file in enumerate(files):
        pixels = draw.integers(0, 256, (9 + number % 4, 11, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return files


@pytest.mark.parametrize(
    ("method", "settings"), [("grad-cam", {}), ("smooth-grad-cam++", {"samples": 3})]
)
def test_stream_gives_maps_of_calls_in_order(
    paths: list[Path], method: str, settings: dict[str, Any]
) -> None:
    explainer = make_explainer(method=method, **settings)
    explanations = [*explainer.stream(paths)]
    assert [explanation.images[0].source for explanation in explanations] == [*map(str, paths)]
    for path, explanation in zip(paths, explanations, strict=True):
        expected = explainer(path)
        np.testing.assert_allclose(explanation.maps, expected.maps, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(
            explanation.layer_maps, expected.layer_maps, rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose(explanation.scores, expected.scores, rtol=1e-5)
        assert explanation.manifest()["target"]["name"] == expected.targets[0]
        assert explanation.notices == expected.notices
        assert explanation.provenance == expected.provenance


def test_call_with_list_gives_maps_of_stream(paths: list[Path]) -> None:
    explainer = make_explainer()
    together = explainer(paths)
    alone = [explanation.maps for explanation in explainer.stream(paths)]
    np.testing.assert_allclose(together.maps, np.concatenate(alone), rtol=1e-4, atol=1e-7)
    assert [image.name for image in together.images] == [path.stem for path in paths]


def test_stream_gets_one_target_per_image(paths: list[Path]) -> None:
    explanations = [*make_explainer().stream(paths, (n % 5 for n in range(COUNT)))]
    assert [explanation.indices[0] for explanation in explanations] == [n % 5 for n in range(COUNT)]


def test_fewer_targets_than_images_are_refused_after_their_maps(paths: list[Path]) -> None:
    explanations = make_explainer().stream(paths, [0, 1])
    assert [next(explanations).indices[0] for _ in range(2)] == [0, 1]
    with pytest.raises(SettingError, match="fewer targets than images; pass one per image"):
        next(explanations)


def test_target_of_unknown_kind_is_refused_at_once() -> None:
    target: Any = 1.5
    with pytest.raises(TargetError, match=r"target 1.5: expected"):
        make_explainer().stream([], target)


def test_stream_of_nothing_is_empty() -> None:
    assert [*make_explainer().stream([])] == []


def test_single_source_is_a_list_of_one(paths: list[Path]) -> None:
    assert len([*make_explainer().stream(str(paths[0]))]) == 1


def test_array_in_stream_counts_as_several_images(paths: list[Path]) -> None:
    explainer, x = make_explainer(), random_images(3)
    explanations = [*explainer.stream([x, paths[0], x[0]])]
    names = [explanation.images[0].name for explanation in explanations]
    assert names == ["array-0", "array-1", "array-2", "00", "array-4"]
    expected = explainer(x).maps
    for row in range(3):
        np.testing.assert_allclose(explanations[row].maps[0], expected[row], rtol=1e-4, atol=1e-7)


def test_images_of_different_sizes_in_stream() -> None:
    explainer = make_explainer(ANY_SIZE)
    images = [random_images(1, (3, 8 + n // 4 % 2, 9), seed=n) for n in range(12)]
    explanations = [*explainer.stream(images)]
    for image, explanation in zip(images, explanations, strict=True):
        np.testing.assert_allclose(explanation.maps, explainer(image).maps, rtol=1e-4, atol=1e-7)


def test_endless_images_are_read_only_as_far_as_needed(paths: list[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        for path in cycle(paths):
            taken += 1
            yield path

    explainer = make_explainer()
    assert len([*islice(explainer.stream(endless()), 3)]) == 3
    assert taken <= 3 * BLOCK + AHEAD


def test_broken_file_raises_in_its_turn(paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    explanations = make_explainer().stream([*paths[:3], broken, *paths[3:]])
    assert len([next(explanations) for _ in range(3)]) == 3
    with pytest.raises(ImageError, match=r"broken\.png"):
        next(explanations)
    with pytest.raises(StopIteration):
        next(explanations)


def test_on_error_leaves_out_broken_files(paths: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    failures: list[tuple[Any, OnnxcamError]] = []
    explanations = make_explainer().stream(
        [missing, *paths, missing], on_error=lambda source, error: failures.append((source, error))
    )
    assert len([*explanations]) == COUNT
    assert [source for source, _ in failures] == [missing, missing]
    assert all("no such file" in str(error) for _, error in failures)


def test_only_the_image_of_a_block_that_cannot_be_run_fails(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that are not finite stop a block; its other images have maps nevertheless."""
    explainer = make_explainer(preprocess="unit")
    x = random_images(5)
    x[3] = 7.0
    real = Session.run

    def run(session: Session, outputs: Any, feeds: Any) -> Any:
        arrays = real(session, outputs, feeds)
        bad = (feeds["x"] == 7.0).all(axis=(1, 2, 3))
        return [np.where(bad.reshape(-1, *[1] * (a.ndim - 1)), np.nan, a) for a in arrays]

    monkeypatch.setattr(Session, "run", run)
    failures: list[OnnxcamError] = []
    explanations = [*explainer.stream(x, 1, on_error=lambda _, error: failures.append(error))]
    assert len(explanations) == 4
    assert [type(error) for error in failures] == [RunError]


def test_error_of_the_iterable_comes_after_its_images(paths: list[Path]) -> None:
    def failing() -> Iterator[Path]:
        yield from paths[:2]
        raise ZeroDivisionError

    explanations = make_explainer().stream(failing())
    assert len([next(explanations) for _ in range(2)]) == 2
    with pytest.raises(ZeroDivisionError):
        next(explanations)


def test_progress_counts_every_image_in_the_calling_thread(paths: list[Path]) -> None:
    counts: list[tuple[int, int]] = []

    def progress(count: int) -> None:
        counts.append((count, threading.get_ident()))

    assert len([*make_explainer().stream(paths, progress=progress)]) == COUNT
    assert sum(count for count, _ in counts) == COUNT
    assert {thread for _, thread in counts} == {threading.get_ident()}


def test_schedules_of_samples_at_image_are_measured_with_one_image_at_a_time() -> None:
    """Their model decides; the clean pass of a single image measures nothing."""
    explainer = Explainer(DEEP.content(), "smooth-grad", device="cpu", cache=False, samples=200)
    assert not explainer.runner.is_tuned
    explainer(random_images(1), target=1)
    assert explainer.runner.is_tuned
    assert not explainer.runner.main.is_tuned


def test_abandoned_stream_leaves_no_threads(paths: list[Path]) -> None:
    before = {*threading.enumerate()}
    explainer = make_explainer(chunk=4)
    for _ in explainer.stream(cycle(paths)):
        break
    for thread in {*threading.enumerate()} - before:
        thread.join(10)
    assert {*threading.enumerate()} <= before


def test_streams_may_be_read_alternately(paths: list[Path]) -> None:
    explainer = make_explainer()
    pairs = zip(explainer.stream(paths, 0), explainer.stream(paths, 1), strict=True)
    assert [(a.indices[0], b.indices[0]) for a, b in pairs] == [(0, 1)] * COUNT


FORKED = """
import os, sys
import numpy as np
from pathlib import Path
from onnxcam import Explainer
paths = sorted(Path(sys.argv[2]).glob("*.png"))
explainer = Explainer(sys.argv[1], "grad-cam", "features", device="cpu", preprocess="unit")
expected = [explainer(path).maps for path in paths]
stream = explainer.stream(paths)
first = [next(stream).maps for _ in range(3)]
child = os.fork()
maps = first + [explanation.maps for explanation in stream]
assert len(maps) == len(expected)
assert all(np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(maps, expected))
if not child:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_stream_goes_on_in_both_processes_after_a_fork(paths: list[Path], tmp_path: Path) -> None:
    model, script = tmp_path / "net.onnx", tmp_path / "script.py"
    model.write_bytes(DEEP.content())
    script.write_text(FORKED)
    result = run_limited([str(script), str(model), str(paths[0].parent)], megabytes=16384)
    assert (result.returncode, result.stdout.strip()) == (0, "5"), result.stderr


MEASURED = """
import resource, sys
from onnxcam import Explainer
explainer = Explainer(sys.argv[1], "grad-cam", "features", device="cpu", preprocess="unit", chunk=4)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
def explain(count):
    for explanation in explainer.stream([sys.argv[2]] * count):
        assert explanation.images[0].image.size == (700, 700)
explain(60)
early = peak()
explain(300)
print(peak() - early)
"""


def test_memory_of_stream_is_flat(tmp_path: Path) -> None:
    """300 images of 1.5 MB: 440 MB if they were kept."""
    model, image = tmp_path / "net.onnx", tmp_path / "large.png"
    model.write_bytes(DEEP.content())
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(pixels).save(image, compress_level=0)
    result = run_limited(["-c", MEASURED, str(model), str(image)], seconds=60, megabytes=16384)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 60

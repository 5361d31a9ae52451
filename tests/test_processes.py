"""An explainer in other processes and threads: forked, spawned, pickled, shared."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer, Explanation, load
from onnxcam.errors import ModelError
from tests.support.limits import run_limited
from tests.support.nets import ANY_SIZE, DEEP, POOLED, random_images

X = random_images(2)
METHODS = ["grad-cam", "smooth-grad-cam++"]
COMMON = """
import multiprocessing, os, sys
import numpy as np
from onnxcam import Explainer
from tests.support.nets import random_images

X = random_images(2)
path, method, cached = sys.argv[1], sys.argv[2], sys.argv[3] == "cached"

def made():
    model = path if cached else open(path, "rb").read()
    return Explainer(model, method, layer="features", device="cpu", cache=cached)
"""
FORK = (
    COMMON
    + """
explainer = made()
expected = explainer(X).maps if sys.argv[4] == "used" else made()(X).maps
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b"same" if np.allclose(explainer(X).maps, expected, rtol=1e-4) else b"other")
    sys.exit(0)  # everything is closed as a process closes it
os.waitpid(child, 0)
assert np.allclose(explainer(X).maps, expected, rtol=1e-4)
print(os.read(reading, 10).decode())
"""
)
IDLE = (
    COMMON
    + """
explainer = made()
explainer(X)
child = os.fork()
if not child:
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)
POOL = (
    COMMON
    + """
explainer = None

def explained(image):
    return explainer(image)

def sent(task):
    return task[0](task[1])

if __name__ == "__main__":
    explainer = made()
    expected = explainer(X).maps
    context = multiprocessing.get_context(sys.argv[4])
    with context.Pool(2) as pool:
        if sys.argv[4] == "fork":
            results = pool.map(explained, [X[:1], X[1:]] * 2)
        else:
            results = pool.map(sent, [(explainer, X[:1]), (explainer, X[1:])] * 2)
    for i, result in enumerate(results):
        assert np.allclose(result.maps, expected[i % 2 : i % 2 + 1], rtol=1e-4, atol=1e-7), i
    print("same")
"""
)
NESTED = (
    COMMON
    + """
explainer = made()
expected = explainer(X).maps
for depth in range(3):
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if depth:
            sys.exit(code)
        print("same" if code == 0 else code)
        break
    if not np.allclose(explainer(X).maps, expected, rtol=1e-4):
        sys.exit(9)
"""
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes") / "net.onnx"
    path.write_bytes(DEEP.content())
    return path


def ran(tmp_path: Path, code: str, *words: str | Path) -> str:
    script = tmp_path / "script.py"
    script.write_text(code)
    result = run_limited([str(script), *map(str, words)], seconds=60, megabytes=16384)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("cached", ["cached", "bytes"])
@pytest.mark.parametrize("method", METHODS)
def test_forked_explainer_gives_same_map(
    path: Path, tmp_path: Path, method: str, cached: str, used: str
) -> None:
    assert ran(tmp_path, FORK, path, method, cached, used) == "same"


def test_idle_fork_exits(path: Path, tmp_path: Path) -> None:
    """It must not wait for the threads of its parent when it closes what it has."""
    assert ran(tmp_path, IDLE, path, "smooth-grad-cam++", "cached") == "7"


def test_nested_forks_give_same_map(path: Path, tmp_path: Path) -> None:
    assert ran(tmp_path, NESTED, path, "smooth-grad-cam++", "cached") == "same"


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_pools_give_same_maps(path: Path, tmp_path: Path, start: str) -> None:
    assert ran(tmp_path, POOL, path, "smooth-grad-cam++", "cached", start) == "same"


# Pickling


def same(explanation: Explanation, expected: Explanation) -> None:
    np.testing.assert_allclose(explanation.maps, expected.maps, rtol=1e-5, atol=1e-7)
    assert explanation.targets == expected.targets
    assert explanation.layers == expected.layers
    assert explanation.notices == expected.notices


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "copy_of", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy, copy.copy]
)
def test_explainer_is_pickled_by_arguments(path: Path, method: str, copy_of: Any) -> None:
    settings: dict[str, Any] = {"samples": 3, "seed": 5} if "smooth" in method else {}
    first = Explainer(
        path,
        method,
        ["features", "early"],
        device="cpu",
        preprocess="unit",
        labels=["a", "b", "c", "d", "e"],
        fuse="mean",
        region="0:2,:",
        **settings,
    )
    second = copy_of(first)
    same(second(X, target="c"), first(X, target="c"))
    assert second.settings == first.settings


@pytest.mark.parametrize("copy_of", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_chosen_pixels_labels_and_subset_are_pickled(
    path: Path, tmp_path: Path, copy_of: Any
) -> None:
    """Images prepared otherwise have other maps, which nobody would notice."""
    image = tmp_path / "cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(image)
    first = Explainer(
        path,
        "grad-cam",
        device="cpu",
        pixels={"mean": (0.1, 0.2, 0.3), "order": "bgr"},
        labels=("a", "b", "c", "d", "e"),
        channels=[0, 2],
        region="0:2,:",
    )
    plain = Explainer(path, "grad-cam", device="cpu")
    second = copy_of(first)
    same(second(image, target="b"), first(image, target="b"))
    assert second.preprocessing == first.preprocessing != plain.preprocessing
    assert (second.labels, second.channels, second.region) == (first.labels, [0, 2], "0:2,:")
    assert second.notices == first.notices
    assert not np.array_equal(second(image, target="b").maps, plain(image, target=1).maps)


@pytest.mark.parametrize("name", ["preprocessing", "channels", "region", "device", "passes"])
def test_explainer_attribute_cannot_be_assigned(path: Path, name: str) -> None:
    """What is assigned later would be missing in copies and in the manifest."""
    explainer = Explainer(path, "grad-cam", device="cpu")
    with pytest.raises(AttributeError):
        setattr(explainer, name, None)


@pytest.mark.parametrize("kind", ["str", "bytes", "proto"])
def test_explainer_of_any_model_file_is_pickled(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    sources = {"str": path.name, "bytes": path.read_bytes(), "proto": onnx.load(path)}
    first: Any = Explainer(sources[kind], "grad-cam", device="cpu", score="probability")
    content = pickle.dumps(first)
    monkeypatch.chdir(path.parent.parent)
    second = pickle.loads(content)
    same(second(X), first(X))
    assert second.plan.digest == first.plan.digest


def test_loaded_model_is_not_pickled(path: Path) -> None:
    explainer = Explainer(load(path), "grad-cam", device="cpu")
    with pytest.raises(
        ModelError, match=r"net.onnx: .* cannot be pickled; create it from the path of the file"
    ):
        pickle.dumps(explainer)
    explainer(X)


def test_explanation_is_pickled_with_images(path: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    image = tmp_path / "cat.png"
    Image.fromarray(pixels).save(image)
    explainer = Explainer(path, "grad-cam", device="cpu", preprocess="unit")
    for source in (X, image):
        explanation = explainer(source)
        second = pickle.loads(pickle.dumps(explanation))
        same(second, explanation)
        assert second.manifest(0) == explanation.manifest(0)
        np.testing.assert_array_equal(
            np.asarray(second.overlay(0)), np.asarray(explanation.overlay(0))
        )


# Threads


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", [DEEP, POOLED])
def test_threads_share_explainer(net: Any, method: str) -> None:
    settings: dict[str, Any] = {"samples": 9} if "smooth" in method else {}
    explainer = Explainer(net.content(), method, "features", device="cpu", cache=False, **settings)
    images = random_images(12, seed=4)
    targets = [i % 5 for i in range(12)]
    expected = [explainer(images[i], target=targets[i]).maps for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda i: explainer(images[i], target=targets[i]).maps, [*range(12)] * 3)
        )
    for i, maps in enumerate(results):
        np.testing.assert_allclose(maps, expected[i % 12], rtol=1e-4, atol=1e-7)


def test_threads_share_explainer_of_any_size() -> None:
    explainer = Explainer(
        ANY_SIZE.content(), "smooth-grad-cam++", "features", device="cpu", samples=7
    )
    images = [random_images(1, (3, 8 + i % 3, 9), seed=i) for i in range(12)]
    expected = [explainer(image, target=1).maps for image in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda image: explainer(image, target=1).maps, images * 3))
    for i, maps in enumerate(results):
        np.testing.assert_allclose(maps, expected[i % 12], rtol=1e-4, atol=1e-7)

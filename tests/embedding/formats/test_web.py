"""The static page: its files, its geometry and drawing against Python's, and the page itself in Chromium."""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from onnxcam.bundled import bundled_explained_model, sample_images
from onnxcam.embedding.formats.explained_file import read_explained
from onnxcam.embedding.formats.web import COLORS, PAGE, RUNTIME, describe_page, write_web
from onnxcam.embedding.metadata import ScoreOutput
from onnxcam.errors import ModelError, OutputError, SettingError
from onnxcam.image.colormap import choose_colormap
from onnxcam.image.geometry import FITS, Fit, place
from onnxcam.image.overlay import overlay
from tests.embedding.support.runtimes import (
    CHROMIUM,
    MODULES,
    SCRIPTS,
    needs_chromium,
    needs_node,
    needs_package,
    run_node,
)
from tests.embedding.support.stand_in import write_stand_in

CORES = os.cpu_count() or 1
IMAGE = next(path for path in sample_images() if "hourglass" in path.name)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder `node_modules` with empty files in place of the runtime."""
    for name in RUNTIME:
        path = tmp_path / "node_modules" / "onnxruntime-web" / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "node_modules"


def test_folder_holds_the_page_the_model_and_the_runtime(tmp_path: Path, modules: Path) -> None:
    source, folder = write_stand_in(tmp_path / "a.onnx"), tmp_path / "site"
    written = write_web(source, folder, modules, samples=[IMAGE])
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        *(f"runtime/{name}" for name in RUNTIME),
        *(path.name for path in PAGE.iterdir()),
        *("explained.onnx", "explanation.json", f"samples/0_{IMAGE.name}"),
    }
    assert set(written.files) == {folder / name for name in files}
    assert (folder / "explained.onnx").read_bytes() == source.read_bytes()
    assert f"python -m http.server 8000 --bind 127.0.0.1 -d {folder}" in written.advice[0]


def test_page_names_no_other_server() -> None:
    for path in PAGE.iterdir():
        assert "://" not in path.read_text(), path


def test_external_data_is_beside_the_model(tmp_path: Path, modules: Path) -> None:
    proto = onnx.load(write_stand_in(tmp_path / "a.onnx"))
    onnx.save_model(proto, tmp_path / "b.onnx", save_as_external_data=True, location="b.data")
    write_web(tmp_path / "b.onnx", tmp_path / "site", modules)
    assert (tmp_path / "site" / "b.data").read_bytes() == (tmp_path / "b.data").read_bytes()
    facts = json.loads((tmp_path / "site" / "explanation.json").read_text())
    assert facts["data"] == ["b.data"]


def test_project_folder_is_taken_for_its_modules(tmp_path: Path, modules: Path) -> None:
    write_web(write_stand_in(tmp_path / "a.onnx"), tmp_path / "site", modules.parent)
    assert (tmp_path / "site" / "runtime" / RUNTIME[0]).read_text() == RUNTIME[0]


@pytest.mark.parametrize("runtime", [None, "missing", "."])
def test_missing_runtime_is_refused_with_what_to_install(
    tmp_path: Path, runtime: str | None
) -> None:
    source = write_stand_in(tmp_path / "a.onnx")
    with pytest.raises(SettingError, match="npm install onnxruntime-web"):
        write_web(source, tmp_path / "site", None if runtime is None else tmp_path / runtime)
    assert not (tmp_path / "site").exists()


def test_runtime_of_another_layout_is_refused(tmp_path: Path, modules: Path) -> None:
    (modules / "onnxruntime-web" / "dist" / RUNTIME[1]).unlink()
    with pytest.raises(SettingError, match=f"lacks {RUNTIME[1]}"):
        write_web(write_stand_in(tmp_path / "a.onnx"), tmp_path / "site", modules)


def test_file_that_takes_no_pixels_is_refused(tmp_path: Path, modules: Path) -> None:
    source = write_stand_in(tmp_path / "a.onnx", pixels=False)
    with pytest.raises(ModelError, match=r"takes no pixels.*--preprocess"):
        write_web(source, tmp_path / "site", modules)


def test_file_without_explanation_is_refused(tmp_path: Path, modules: Path) -> None:
    text = '<ir_version: 9, opset_import: ["": 17]> a (float x) => (float y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="holds no explanation"):
        write_web(tmp_path / "a.onnx", tmp_path / "site", modules)


def test_folder_with_content_is_kept(tmp_path: Path, modules: Path) -> None:
    source, folder = write_stand_in(tmp_path / "a.onnx"), tmp_path / "site"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_web(source, folder, modules)
    write_web(source, folder, modules, force=True)
    assert (folder / "mine.txt").read_text() == "mine"


@needs_node
def test_box_is_that_of_python(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    cases: list[tuple[list[int], list[int], Fit, float]] = [
        (image.tolist(), tensor.tolist(), fit, ratio)
        for fit in FITS
        for ratio in (0.875, 0.9, 1.0)
        for image, tensor in draw.integers(1, 700, (20, 2, 2))
    ]
    boxes = call_draw(tmp_path, [("box", *case) for case in cases])
    for (image, tensor, fit, ratio), box in zip(cases, boxes, strict=True):
        size = (tensor[0], tensor[1])
        expected = place((image[0], image[1]), size, fit, ratio).box(size)
        np.testing.assert_allclose(box, expected, rtol=1e-12, atol=1e-9)


@needs_node
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("area", [(0, 0, 60, 40), (10, 0, 50, 40), (-12, -5, 70, 45)])
def test_drawing_is_that_of_python(
    tmp_path: Path, area: tuple[int, int, int, int], signed: bool
) -> None:
    """The interpolation of unsigned maps is linear here and cubic there, so the map is linear, too."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:8, :12]
    saliency = (rows + 2 * columns).astype(np.float32) - (9 if signed else 0)
    image = Image.fromarray(pixels)
    expected = np.asarray(overlay(image, saliency, area, signed=signed, opacity=0.6), np.int32)
    colors = choose_colormap(signed=signed)
    table = colors(np.linspace(colors.lowest, 1, COLORS)).ravel().tolist()
    (level,) = call_draw(tmp_path, [("normalize", saliency.ravel().tolist(), signed, 0)])
    (values,) = call_draw(tmp_path, [("spread", level, saliency.shape, (60, 40), area)])
    opaque = np.dstack([pixels, np.full((40, 60), 255, np.uint8)]).ravel().tolist()
    # JSON has no NaN: what the map does not cover arrives as null
    shown = [np.nan if value is None else value for value in values]
    covered = np.isfinite(np.asarray(shown, np.float64)).reshape(40, 60)
    blended = [0.0 if value is None else value for value in values]
    (drawn,) = call_draw(tmp_path, [("blend", opaque, blended, table, signed, 0.6)])
    result = np.asarray(drawn, np.int32).reshape(40, 60, 4)[..., :3]
    inside = covered.copy()
    inside[:, [area[0] % 60, (area[2] - 1) % 60]] = (
        False  # cubic interpolation bends at the borders
    )
    difference = np.abs(result - expected)[covered]
    assert covered.sum() == (min(area[2], 60) - max(area[0], 0)) * 40
    assert np.percentile(difference, 95) <= 3
    assert difference.max() <= 16  # cubic interpolation bends at the borders


@needs_node
def test_numbers_of_the_page_are_right(tmp_path: Path) -> None:
    scores = [3.0, -1.0, 2.5, 3.0, 1000.0 / 300]
    order, digits, empty = call_draw(
        tmp_path,
        [
            ("best", scores, 3),
            ("fromHex", "00ff7f"),
            ("normalize", [0, -1, -2], False, 0),
        ],
    )
    assert (order, digits, empty) == ([4, 0, 3], [0, 255, 127], None)


def call_draw(folder: Path, calls: list[Any]) -> Any:
    """The results of functions of the page's draw.mjs."""
    path = folder / "calls.json"
    path.write_text(json.dumps(calls))
    return run_node(folder, SCRIPTS / "draw.mjs", PAGE / "draw.mjs", path)


class QuietHandler(SimpleHTTPRequestHandler):
    """Python's own server of files, without its log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class IsolatedHandler(QuietHandler):
    """The same with the headers that threads need."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@dataclass
class Visit:
    """What a browser saw: the answers of the page, and the outputs of ONNX Runtime in Python for class 3."""

    seen: dict[str, Any]
    expected: dict[str, Any]
    shots: Path
    url: str


def visit(folder: Path, handler: type[SimpleHTTPRequestHandler]) -> Visit:
    """Write the page of the bundled file, open it in Chromium, and have it explain an image."""
    source = bundled_explained_model()
    sample = folder / "a #1 & b?.png"
    sample.write_bytes(IMAGE.read_bytes())
    write_web(source, folder / "site", MODULES, samples=[sample])
    (folder / "shots").mkdir()
    pixels = np.asarray(Image.open(IMAGE).convert("RGB"))
    numbers = {"pixels": pixels.ravel().tolist(), "target": 3}
    numbers |= {"height": pixels.shape[0], "width": pixels.shape[1]}
    (folder / "input.json").write_text(json.dumps(numbers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        words = (CHROMIUM, url, IMAGE, folder / "input.json", folder / "shots")
        seen = run_node(folder, SCRIPTS / "browser.mjs", *words)
    finally:
        server.shutdown()
        server.server_close()
    return Visit(seen, run_source(source, pixels, 3), folder / "shots", url)


def run_source(source: Path, pixels: NDArray[np.uint8], target: int) -> dict[str, Any]:
    """The outputs of ONNX Runtime by name."""
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    outputs = session.run(names, {"pixels": pixels[None], "target": np.array([target])})
    return dict(zip(names, outputs, strict=True))


def require_same_outputs(page: Visit) -> None:
    """The raw map and the scores are those of Python."""
    outputs, expected = page.seen["outputs"], page.expected
    saliency = np.reshape(outputs["map"], outputs["shape"])
    peak = float(np.abs(expected["saliency"]).max())
    np.testing.assert_allclose(saliency, expected["saliency"][0], rtol=0, atol=1e-5 * peak)
    np.testing.assert_allclose(outputs["scores"], expected["logits"][0], rtol=0, atol=1e-4)


def require_overlay(page: Visit) -> None:
    """What the page draws for the best class is what Python draws, at the size of the image."""
    image = Image.open(IMAGE).convert("RGB")
    drawn = np.reshape(page.seen["pixels"], (image.height, image.width, 4))[..., :3]
    pixels = np.asarray(image)
    assert np.abs(drawn.astype(np.int32) - pixels).max() > 50
    (saliency,) = run_source(bundled_explained_model(), pixels, -1)["saliency"]
    expected = overlay(image, saliency, (0, 0, image.width, image.height), opacity=0.6)
    assert np.abs(drawn - np.asarray(expected, np.int32)).max() <= 3


def require_screenshots(shots: Path) -> None:
    """They have the colors of the scheme and of the map, and nothing is wider than the screen."""
    for name, width in (("wide", 1100), ("dark", 1100), ("phone", 390)):
        image = Image.open(shots / f"{name}.png").convert("RGB")
        assert image.width == width
        assert len(image.getcolors(image.width * image.height) or ()) > 2000
    light, dark = (
        int(np.asarray(Image.open(shots / f"{name}.png").convert("L"))[5, 5])
        for name in ("wide", "dark")
    )
    assert dark < 60 < 200 < light


@pytest.mark.slow
@needs_chromium
@needs_package("playwright-core")
@needs_package("onnxruntime-web")
def test_page_explains_an_image_in_the_browser(tmp_path: Path) -> None:
    page = visit(tmp_path, QuietHandler)
    seen = page.seen
    assert set(seen["problems"]) <= {"No available adapters."}  # the browser's own word on WebGPU
    assert seen["backend"] == "wasm"
    assert "because there is no device for WebGPU; more threads need" in seen["text"]
    assert seen["listed"][0] == "hourglass score 8.68"
    assert seen["label"] == "The image with the evidence for hourglass"
    assert seen["chosen"] == f"The image with the evidence for {seen['listed'][1].split()[0]}"
    assert seen["offered"] == seen["label"]  # the same image, from the page
    assert len(seen["requested"]) > len(RUNTIME)
    assert all(address.startswith(page.url) for address in seen["requested"])
    require_same_outputs(page)
    require_overlay(page)
    require_screenshots(page.shots)


@pytest.mark.slow
@needs_chromium
@needs_package("playwright-core")
@needs_package("onnxruntime-web")
def test_isolated_page_runs_in_threads(tmp_path: Path) -> None:
    page = visit(tmp_path, IsolatedHandler)
    assert page.seen["backend"] == "wasm"
    assert re.search(r"WebAssembly, \d threads?\)", page.seen["text"])
    assert ("more threads" in page.seen["text"]) == (CORES == 1)
    require_same_outputs(page)


def test_page_of_a_fixed_batch_repeats_the_image(tmp_path: Path) -> None:
    facts = describe_page(read_explained(write_stand_in(tmp_path / "a.onnx", batch=3)))
    assert (facts["rows"], facts["size"], facts["showsTop"]) == (3, [None, None], True)
    assert len(facts["colors"]) == 6 * COLORS


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (ScoreOutput("logits", 10), ("logits", False)),
        (ScoreOutput("logits", 10, "Softmax"), ("logits", True)),
        (
            ScoreOutput("before_rounding", 10, "Softmax"),
            ("logits", True),
        ),  # the only one of its size
        (ScoreOutput("before_rounding", 11), None),
        (ScoreOutput("layer_map", 14), None),  # of cells
        (None, None),
    ],
)
def test_scores_are_those_of_the_classes(
    tmp_path: Path, score: ScoreOutput | None, expected: tuple[str, bool] | None
) -> None:
    file = read_explained(write_stand_in(tmp_path / "a.onnx"))
    facts = describe_page(replace(file, explanation=replace(file.explanation, score=score)))[
        "score"
    ]
    assert (facts and (facts["output"], facts["isProbability"])) == expected


def test_classes_can_be_chosen_where_no_output_lists_them(tmp_path: Path) -> None:
    """As of detectors, whose outputs hold boxes."""
    file = read_explained(write_stand_in(tmp_path / "a.onnx"))
    of_boxes = replace(file.explanation, score=ScoreOutput("boxes", 12))
    facts = describe_page(replace(file, explanation=of_boxes))
    assert (facts["score"], facts["classes"], facts["target"]) == (None, 12, "target")

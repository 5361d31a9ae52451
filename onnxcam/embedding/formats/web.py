"""A static page that runs the file in the browser: page, file, and the runtime of an installed npm package.

The page sends pixels, so the file must take them: resizing and normalizing are then the same everywhere, and
are not written a second time in JavaScript.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.embedding.formats.explained_file import (
    ExplainedFile,
    Written,
    read_explained,
    require_free,
    write_files,
)
from onnxcam.embedding.metadata import PIXELS, SALIENCY, TARGET
from onnxcam.embedding.signature import describe_target
from onnxcam.errors import ModelError, SettingError
from onnxcam.explain.explanation import OUTLIERS
from onnxcam.image.colormap import choose_colormap
from onnxcam.targets.classes import DEFAULT_TARGET

PAGE = Path(__file__).with_name("page")
PACKAGE = "onnxruntime-web"
RUNTIME = (  # of the package's folder `dist`: for the CPU, and for the GPU
    *("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)
COLORS = 257  # odd, so that 0 has a color of its own in a diverging map
PORT = 8000


def write_web(
    explained: Path,
    folder: Path,
    runtime: Path | None,
    *,
    samples: Sequence[Path] = (),
    force: bool = False,
) -> Written:
    """Write the page into the folder. `runtime` is the folder `node_modules` with onnxruntime-web, and
    `samples` are images that the page offers.

    ModelError if the file has no explanation or takes no pixels; SettingError if the runtime is missing;
    OutputError if the folder is not empty, without `force`, or cannot be written.
    """
    require_free(folder, force)
    file = read_explained(explained)
    _require_pixels(file)
    sources: dict[str, Path | bytes] = {
        f"runtime/{path.name}": path for path in find_runtime(runtime)
    }
    model = {"explained.onnx": explained} | {path.name: path for path in file.data}
    sources |= model
    names = [f"samples/{index}_{path.name}" for index, path in enumerate(samples)]
    sources |= dict(zip(names, samples, strict=True))
    sources["explanation.json"] = json.dumps(describe_page(file, names)).encode()
    sources |= {path.name: path for path in sorted(PAGE.iterdir(), reverse=True)}
    files = write_files(folder, sources)
    return Written(files, tuple(folder / name for name in model), _advice(folder))


def _require_pixels(file: ExplainedFile) -> None:
    if PIXELS not in file.inputs or file.explanation.preprocessing is None:
        raise ModelError(
            f"{file.path.name}: takes no pixels, which the page sends; write it with its preprocessing "
            "(`onnxcam embed --preprocess NAME`)"
        )
    if SALIENCY not in file.outputs:
        raise ModelError(
            f"{file.path.name}: does not return {SALIENCY!r}, which the page draws; name it in --outputs"
        )
    if others := [name for name in file.inputs if name not in (PIXELS, TARGET)]:
        raise ModelError(
            f"{file.path.name}: has the input {', '.join(others)}, for which the page has no value; give it "
            "one with --input when the file is written"
        )


def find_runtime(runtime: Path | None) -> tuple[Path, ...]:
    """The files of onnxruntime-web that the page loads. SettingError if they are not there."""
    how = f"install it (`npm install {PACKAGE}`), then name the folder: --runtime node_modules"
    if runtime is None:
        raise SettingError(f"the page needs {PACKAGE}, which runs the model in browsers; {how}")
    folders = (runtime / PACKAGE, runtime / "node_modules" / PACKAGE, runtime)
    dist = next((folder / "dist" for folder in folders if (folder / "dist").is_dir()), None)
    if dist is None:
        raise SettingError(f"{runtime}: no {PACKAGE} in this folder; {how}")
    if missing := [name for name in RUNTIME if not (dist / name).is_file()]:
        raise SettingError(
            f"{dist}: lacks {', '.join(missing)}; install a version of {PACKAGE} with these files, such as 1.30"
        )
    return tuple(dist / name for name in RUNTIME)


def describe_page(file: ExplainedFile, samples: Sequence[str] = ()) -> dict[str, Any]:
    """What the page needs to know, as JSON can hold it."""
    explanation, pixels = file.explanation, file.inputs[PIXELS]
    assert explanation.preprocessing is not None  # noqa: S101  checked above
    batch, height, width, _ = pixels.shape
    colors = choose_colormap(signed=explanation.signed)
    levels = colors(np.linspace(colors.lowest, 1, COLORS))
    return {
        "model": explanation.model_name,
        "method": explanation.method,
        "layers": list(explanation.layers),
        "pixels": PIXELS,
        "rows": batch if isinstance(batch, int) else 1,
        "size": [side if isinstance(side, int) else None for side in (height, width)],
        "target": TARGET if TARGET in file.inputs else None,
        "showsTop": explanation.target == DEFAULT_TARGET,
        "automatic": describe_target(explanation).replace("the one", "the class"),
        "saliency": SALIENCY,
        "score": _describe_scores(file),
        "classes": explanation.score and explanation.score.classes,
        "labels": explanation.labels and list(explanation.labels),
        "signed": explanation.signed,
        "outliers": 0.0 if explanation.layers else OUTLIERS,
        "fit": explanation.preprocessing.fit,
        "crop_ratio": explanation.preprocessing.crop_ratio,
        "colors": levels.tobytes().hex(),
        "data": [path.name for path in file.data],
        "samples": list(samples),
    }


def _describe_scores(file: ExplainedFile) -> dict[str, Any] | None:
    """The output with the classes' scores; None if there is none, or not one list of classes for an image."""
    scores, score = file.scores, file.explanation.score
    if scores is None or score is None or scores.shape[1:] != (score.classes,):
        return None
    is_probability = score.activation is not None and scores.dtype.startswith("float")
    return {"output": scores.name, "classes": score.classes, "isProbability": is_probability}


def _advice(folder: Path) -> tuple[str, ...]:
    return (
        (
            f"serve the folder, because browsers run no programs from files: python -m http.server {PORT} "
            f"--bind 127.0.0.1 -d {folder}, then open http://127.0.0.1:{PORT}/"
        ),
        (
            "on the CPU it runs in one thread, unless the server sends Cross-Origin-Opener-Policy: "
            "same-origin and Cross-Origin-Embedder-Policy: require-corp"
        ),
    )

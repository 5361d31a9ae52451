"""Damaged and odd images, label files and metadata."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

import onnxcam
from scripts.fuzz import values
from scripts.fuzz.case import Case, WrongError
from scripts.fuzz.models import model_case
from scripts.fuzz.seeds import model_of, seed_models

FORMATS = (
    *("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "TGA", "JPEG2000", "AVIF"),
    *("MPO",),
)
MODES = (
    *("RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB"),
    *("PA", "RGBX"),
)
SIZES = ((8, 8), (8, 8), (1, 1), (1, 300), (300, 1), (37, 11), (2000, 2))
KEYS = (
    *("names", "labels", "classes", "mean", "std", "imgsz", "task", "stride", "author"),
    *("batch", "channels", "Image.BitmapPixelFormat", "Image.ColorSpaceGamma"),
    *("Image.NominalPixelRange", "", "names"),
)


@lru_cache(maxsize=1)
def _explainer() -> Any:
    """An explainer for images of 8 x 8 pixels from 0 to 1."""
    return onnxcam.Explainer(
        seed_models()["pooled"], "grad-cam", cache=False, device="cpu", preprocess="unit"
    )


def damaged_image(draw: Random) -> Case:
    """An image of any format, mode and size, mostly with some bytes changed."""
    form, mode, size = draw.choice(FORMATS), draw.choice(MODES), draw.choice(SIZES)
    content = encode_image(form, mode, size, draw)
    what = f"{form} {mode} {size[0]} x {size[1]}"
    if draw.random() < 0.7:
        content, what = values.mutate_bytes(content, draw), f"{what} damaged"
    return Case(what, {"image": content}, _explain_image)


def encode_image(form: str, mode: str, size: tuple[int, int], draw: Random) -> bytes:
    """A file of random pixels; in RGB if the format does not support the mode."""
    pixels = np.frombuffer(draw.randbytes(size[0] * size[1] * 3), np.uint8).reshape(
        size[1], size[0], 3
    )
    image = Image.fromarray(pixels)
    options: dict[str, Any] = {}
    if draw.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = draw.choice((1, 3, 6, 8, 0, 99, 1 << 15))
        options["exif"] = exif.tobytes()
    if draw.random() < 0.2 and form != "AVIF":  # Pillow's writer crashes with several frames
        options |= {"save_all": True, "append_images": [image] * 2}
    for attempt in (mode, "RGB"):
        stream = io.BytesIO()
        try:
            (image if attempt == "RGB" else image.convert(attempt)).save(stream, form, **options)
        except Exception:  # noqa: BLE001  a mode that the format or the conversion does not have
            continue
        return stream.getvalue()
    return draw.randbytes(100)


def _explain_image(folder: Path) -> None:
    """The score must be that of the pixels as Pillow reads them, if they need no resizing."""
    path, explainer = folder / "image", _explainer()
    explanation = explainer(path)
    try:
        with Image.open(path) as image:
            image.load()
            mode, size, turned = image.mode, image.size, image.getexif().get(0x0112, 1)
            plain = mode in ("RGB", "L") and not image.has_transparency_data
            pixels = np.asarray(image.convert("RGB"), np.float32)
    except Exception as error:
        raise WrongError(f"explained what Pillow does not read: {error!r}") from error
    if not plain or size != (8, 8) or turned in range(2, 9):
        return
    direct = explainer(np.moveaxis(pixels / 255, -1, 0))
    if abs(float(direct.scores[0] - explanation.scores[0])) > 1e-4 * max(
        1, abs(float(direct.scores[0]))
    ):
        raise WrongError(f"a score of {explanation.scores[0]}, of the pixels {direct.scores[0]}")


# Labels


def damaged_labels(draw: Random) -> Case:
    """A file of five labels in one of the usual formats, mostly damaged."""
    names = draw.sample(
        ("cat", "dog", "gray wolf", "naïve", "-", "x y, z", "281", "tench", "top1", "a-b"), 5
    )
    form, content = draw.choice(list(_label_files(names).items()))
    if draw.random() < 0.3:
        return Case(
            f"labels in {form}",
            {f"labels{form}": content},
            lambda folder: _check_labels(folder, form, names),
        )
    content = (
        values.mutate_bytes(content, draw) if draw.random() < 0.8 else draw.choice(values.TEXTS)
    )
    return Case(
        f"labels in {form}, damaged",
        {f"labels{form}": content},
        lambda folder: _check_labels(folder, form, None),
    )


def _label_files(names: list[str]) -> dict[str, bytes]:
    numbered = {str(number): name for number, name in enumerate(names)}
    forms: dict[str, Any] = {
        ".txt": "\n".join(names) + "\n",
        " lines.txt": "\r\n".join(names),
        " marked.txt": "\ufeff" + "\n".join(names),
        " list.json": json.dumps(names),
        " dict.json": json.dumps(numbered),
        " pairs.json": json.dumps({key: ["n0", name] for key, name in numbered.items()}),
        " config.json": json.dumps(
            {"id2label": numbered, "label2id": {name: int(key) for key, name in numbered.items()}}
        ),
        " class_to_idx.json": json.dumps({name: int(key) for key, name in numbered.items()}),
    }
    return {form: text.encode() for form, text in forms.items()}


def _check_labels(folder: Path, form: str, names: list[str] | None) -> None:
    explainer = onnxcam.Explainer(
        seed_models()["pooled"],
        "grad-cam",
        cache=False,
        device="cpu",
        preprocess="unit",
        labels=folder / f"labels{form}",
    )
    labels = explainer.labels
    notice_text = " ".join(explainer.notices)
    if (labels is None or len(labels) != 5) and not any(
        word in notice_text for word in ("label", "name")
    ):
        raise WrongError(f"{len(labels or ())} labels for five classes are taken without a word")
    if names is not None and list(labels or ()) != names:
        raise WrongError(f"{names} are read as {labels}")
    image = np.zeros((3, 8, 8), np.float32)
    explanation = explainer(image, 3)
    if names is not None and explanation.targets[0] != names[3]:
        raise WrongError(f"class 3 is called {explanation.targets[0]!r}, not {names[3]!r}")


# Metadata


def hostile_metadata(draw: Random) -> Case:
    """A model with hostile metadata: scores and gradients must be as right as without it."""
    proto = model_of(draw.choice(("pooled", "softmax", "sizes", "boxes", "dense")))
    for _ in range(draw.choice((1, 1, 2, 4))):
        proto.metadata_props.add(key=draw.choice(KEYS), value=_hostile_value(draw))
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    content = bytes(proto.SerializeToString())
    if draw.random() < 0.1:
        content = content.replace(b"names", b"na\xffes").replace(b"cat", b"c\xfft")
    return model_case(f"metadata {str(metadata)[:150]}", content, draw, commands=0.4)


def _hostile_value(draw: Random) -> str:
    number = str(draw.choice((values.integer(draw), values.number(draw))))
    return draw.choice(
        (
            *(
                "",
                "[]",
                "{}",
                "None",
                "nan",
                "{0: 'cat', 1: 'dog'}",
                "{0: 'cat', 99999999999: 'dog'}",
            ),
            *(
                "{-1: 'cat'}",
                "['a', 'b', 'c', 'd', 'e']",
                "a\nb\nc\nd\ne",
                "a,b,c,d,e",
                "\x1b[31mred",
                "\u202ecba",
            ),
            *(
                "[0.5, 0.5, 0.5]",
                "0.5",
                "[0, 0, 0]",
                "[nan, 1, 1]",
                "[1e400]",
                "(" * 3000,
                "[" * 3000,
                "{0: " * 500,
            ),
            *(
                "Bgr8",
                "Rgb8",
                "Gray8",
                "SRGB",
                "NominalRange_0_255",
                "Normalized_0_1",
                "detect",
                "[640, 640]",
            ),
            *(
                "9" * 5000,
                number,
                f"[{number}, {number}, {number}]",
                f"{{0: {number}}}",
                "__import__('os')",
            ),
        )
    )

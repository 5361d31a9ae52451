"""A model repository of Triton Inference Server: `NAME/config.pbtxt`, `NAME/1/model.onnx`, `NAME/labels.txt`.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from onnxcam.atomic_write import remove
from onnxcam.embedding.formats.explained_file import (
    ExplainedFile,
    Value,
    Written,
    read_explained,
    require_free,
    write_files,
)
from onnxcam.embedding.metadata import to_properties
from onnxcam.errors import ModelError, OnnxcamError, SettingError

TYPES = {
    "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
    "bfloat16": "TYPE_BF16",
    **{f"uint{bits}": f"TYPE_UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"TYPE_INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
}
LABELS = "labels.txt"
MAX_BATCH = 8  # images that the server puts together
DELAY = 100  # microseconds that it waits for them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_triton(
    explained: Path, folder: Path, name: str | None = None, *, force: bool = False
) -> Written:
    """Write the repository; `name` is that of the model (default: of the file).

    A file whose inputs and outputs all have a free batch gets dynamic batching of up to 8 images. One with a
    fixed batch gets `max_batch_size: 0`, which makes the batch an axis like the others. A `labels.txt` that was
    written for an earlier file is removed if this one has no labels.

    ModelError if the file has no explanation, or types or scalars that Triton lacks; SettingError for a name
    that is no name of a folder; OutputError if the model's folder is not empty, without `force`, or cannot be
    written.
    """
    file = read_explained(explained)
    name = explained.stem if name is None else name
    if not NAME.fullmatch(name):
        raise SettingError(
            f"the model name {name!r}: expected letters, digits, '.', '_' and '-', which name a folder"
        )
    require_free(folder / name, force)
    config = "\n".join(write_config(file, name)) + "\n"
    sources: dict[str, Path | bytes] = {"1/model.onnx": explained}
    sources |= {f"1/{path.name}": path for path in file.data}
    model = tuple(folder / name / path for path in sources)
    sources["config.pbtxt"] = config.encode()
    if file.explanation.labels and file.scores:
        sources[LABELS] = _label_lines(file.explanation.labels).encode()
    advice = [f"start the server with: tritonserver --model-repository={folder}"]
    old_labels = None if LABELS in sources else folder / name / LABELS
    is_stale = old_labels is not None and _was_written(old_labels)  # before its model is replaced
    written = write_files(folder / name, sources)
    if old_labels is not None and is_stale:
        remove(old_labels)
    elif old_labels is not None and old_labels.exists():
        advice.append(f"{old_labels} is kept and not used: onnxcam did not write it for this model")
    return Written(written, model, tuple(advice))


def _was_written(labels: Path) -> bool:
    """Whether a file has the labels of the model that is in its repository, as they are written here."""
    try:
        names = read_explained(labels.parent / "1" / "model.onnx").explanation.labels
        return bool(names) and labels.read_bytes() == _label_lines(names or ()).encode()
    except (OnnxcamError, OSError):
        return False


def write_config(file: ExplainedFile, name: str) -> Iterator[str]:
    """The lines of config.pbtxt."""
    values = (*file.inputs.values(), *file.outputs.values())
    is_batched = all(value.shape and not isinstance(value.shape[0], int) for value in values)
    yield f"name: {quote(name)}"
    yield 'platform: "onnxruntime_onnx"'
    yield f"max_batch_size: {MAX_BATCH if is_batched else 0}"
    for value in file.inputs.values():
        yield f"input [ {{ {_tensor(file.path, value, is_batched)} }} ]"
    for value in file.outputs.values():
        labels = f" label_filename: {quote(LABELS)}" if _is_labeled(file, value) else ""
        yield f"output [ {{ {_tensor(file.path, value, is_batched)}{labels} }} ]"
    if is_batched:
        yield f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}"
    for key, text in to_properties(file.explanation).items():
        yield f"parameters {{ key: {quote(key)} value {{ string_value: {quote(text)} }} }}"


def _tensor(path: Path, value: Value, is_batched: bool) -> str:
    """The name, type and dims of a tensor, without the batch axis where Triton adds it."""
    dims = value.shape[1:] if is_batched else value.shape
    if value.dtype not in TYPES or not value.shape:
        what = f"the type {value.dtype}" if value.dtype not in TYPES else "no axes"
        raise ModelError(f"{path}: {value.name!r} has {what}, which Triton does not take")
    sizes = ", ".join(str(dim if isinstance(dim, int) else -1) for dim in dims)
    # Triton wants at least one size; for one number an image, the axis is added and taken away again
    shape = f"dims: [ {sizes or 1} ]{'' if dims else ' reshape: { shape: [ ] }'}"
    return f"name: {quote(value.name)} data_type: {TYPES[value.dtype]} {shape}"


def _is_labeled(file: ExplainedFile, value: Value) -> bool:
    return bool(file.explanation.labels) and value == file.scores


def _label_lines(labels: tuple[str, ...]) -> str:
    return "".join(f"{' '.join(label.split())}\n" for label in labels)


def quote(text: str) -> str:
    """A string of protobuf's text format, in ASCII."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())

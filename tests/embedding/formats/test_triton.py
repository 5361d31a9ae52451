"""The model repository of Triton: parsed by Triton's own protocol buffers, and compared with the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from onnxcam.embedding.formats.explained_file import Value, read_explained
from onnxcam.embedding.formats.triton import quote, write_config, write_triton
from onnxcam.embedding.metadata import from_properties
from onnxcam.errors import ModelError, OutputError, SettingError
from tests.embedding.support.runtimes import triton_config
from tests.embedding.support.stand_in import write_stand_in

NUMPY = {"TYPE_FP32": "float32", "TYPE_INT64": "int64", "TYPE_UINT8": "uint8"}


def parse(path: Path) -> Any:
    """The configuration, by Triton's definition of it: unknown fields, enumerators and types are errors."""
    return text_format.Parse((path / "config.pbtxt").read_text(), triton_config()())


def declared_shape(tensor: Any, is_batched: bool) -> tuple[int, ...]:
    """What Triton takes the shape of a tensor for: `dims`, or what they are reshaped to, after the batch."""
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return ((-1,) if is_batched else ()) + tuple(dims)


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_configuration_describes_the_file(
    tmp_path: Path, batch: int | None, pixels: bool, target: bool
) -> None:
    source = write_stand_in(tmp_path / "a.onnx", pixels=pixels, target=target, batch=batch)
    written = write_triton(source, tmp_path / "models", "shapes")
    config = parse(tmp_path / "models" / "shapes")
    session = ort.InferenceSession(
        tmp_path / "models/shapes/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    assert (config.name, config.platform) == ("shapes", "onnxruntime_onnx")
    assert config.max_batch_size == (8 if batch is None else 0)
    assert config.HasField("dynamic_batching") == (batch is None)
    for tensors, values in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [tensor.name for tensor in tensors] == [value.name for value in values]
        for tensor, value in zip(tensors, values, strict=True):
            kind = triton_config().DESCRIPTOR.file.enum_types_by_name["DataType"]
            name = kind.values_by_number[tensor.data_type].name
            dtype = {"tensor(float)": "float32"}.get(value.type, value.type[len("tensor(") : -1])
            assert NUMPY[name] == dtype
            sizes = tuple(size if isinstance(size, int) else -1 for size in value.shape)
            assert declared_shape(tensor, batch is None) == sizes
            assert all(dim == -1 or dim > 0 for dim in tensor.dims)  # Triton refuses others
            assert len(tensor.dims) > 0
    assert all(path.is_file() for path in written.files)


def test_repository_has_labels_and_parameters(tmp_path: Path) -> None:
    source = write_stand_in(tmp_path / "shapes.onnx")
    written = write_triton(source, tmp_path / "models")
    folder = tmp_path / "models" / "shapes"
    config = parse(folder)
    (logits, *maps) = config.output
    assert logits.label_filename == "labels.txt"
    assert not any(output.label_filename for output in maps)
    labels = (folder / "labels.txt").read_text().splitlines()
    assert (len(labels), labels[5]) == (10, "hourglass")
    texts = {key: value.string_value for key, value in config.parameters.items()}
    explanation = read_explained(source).explanation
    assert from_properties(texts) == replace(explanation, labels=None)
    assert written.advice[0].endswith(f"--model-repository={tmp_path / 'models'}")
    assert (folder / "1" / "model.onnx").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("text", ['"', "\\", "\n", "naïve \N{SNOWMAN}", '{"a": "\\u00e9"}', ""])
def test_quoted_text_is_read_back(text: str) -> None:
    config = text_format.Parse(f"name: {quote(text)}", triton_config()())
    assert config.name == text


def test_external_data_is_beside_the_model(tmp_path: Path) -> None:
    source = write_stand_in(tmp_path / "a.onnx")
    onnx.save_model(
        onnx.load(source), tmp_path / "b.onnx", save_as_external_data=True, location="b.data"
    )
    write_triton(tmp_path / "b.onnx", tmp_path / "models")
    session = ort.InferenceSession(
        tmp_path / "models/b/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(
        ["logits"], {"pixels": np.zeros((1, 9, 9, 3), np.uint8), "target": np.array([-1])}
    )
    assert scores.shape == (1, 10)


def test_fixed_batch_of_an_output_prevents_batching(tmp_path: Path) -> None:
    file = read_explained(write_stand_in(tmp_path / "a.onnx"))
    outputs = {**file.outputs, "boxes": Value("boxes", "float32", (1, 4))}
    assert "max_batch_size: 0" in list(write_config(replace(file, outputs=outputs), "a"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [(Value("v", "complex64", ("N", 2)), "complex64"), (Value("v", "float32", ()), "no axes")],
)
def test_tensor_that_triton_lacks_is_refused(tmp_path: Path, value: Value, reason: str) -> None:
    file = read_explained(write_stand_in(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=f"'v' has .*{reason}"):
        list(write_config(replace(file, outputs={**file.outputs, "v": value}), "a"))


@pytest.mark.parametrize("name", ["", "../a", "a b", ".hidden", "a/b"])
def test_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="model name"):
        write_triton(write_stand_in(tmp_path / "a.onnx"), tmp_path / "models", name)


def test_folder_with_content_is_kept(tmp_path: Path) -> None:
    source = write_stand_in(tmp_path / "a.onnx")
    write_triton(source, tmp_path / "models")
    with pytest.raises(OutputError, match="not empty"):
        write_triton(source, tmp_path / "models")
    write_triton(source, tmp_path / "models", force=True)
    write_triton(source, tmp_path / "models", "other")  # beside it


def without_labels(source: Path, path: Path) -> Path:
    proto = onnx.load(source)
    kept = {prop.key: prop.value for prop in proto.metadata_props if prop.key != "names"}
    onnx.helper.set_model_props(proto, kept)
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("is_ours", [True, False])
def test_labels_of_an_earlier_file_are_removed_unless_they_were_edited(
    tmp_path: Path, is_ours: bool
) -> None:
    source = write_stand_in(tmp_path / "a.onnx")
    write_triton(source, tmp_path / "models", "a")
    labels = tmp_path / "models" / "a" / "labels.txt"
    assert labels.exists()
    if not is_ours:
        labels.write_text("mine\n")
    silent = without_labels(source, tmp_path / "silent.onnx")
    written = write_triton(silent, tmp_path / "models", "a", force=True)
    assert labels.exists() is not is_ours
    assert any(f"{labels} is kept" in advice for advice in written.advice) is not is_ours
    assert not any(output.label_filename for output in parse(labels.parent).output)
    assert is_ours or labels.read_text() == "mine\n"


def test_labels_beside_no_model_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "silent"
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("mine\n")
    silent = without_labels(write_stand_in(tmp_path / "a.onnx"), tmp_path / "silent.onnx")
    write_triton(silent, tmp_path / "models", force=True)
    assert (folder / "labels.txt").read_text() == "mine\n"

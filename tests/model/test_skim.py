"""A protocol buffer read without its large weights is the same model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.bundled import bundled_detector, bundled_model
from onnxcam.errors import ModelError
from onnxcam.model.external_data import read_external_data
from onnxcam.model.load import load, load_mapped
from onnxcam.model.proto.skim import SKIPPED_BYTES, skim_proto

FILES = [
    bundled_model(),
    bundled_detector(),
    *sorted((Path(__file__).parents[1] / "data").glob("*.onnx")),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_with_its_weights_read_again_is_the_same(path: Path) -> None:
    skimmed, original = skim_proto(path), onnx.load(path)
    read_external_data(skimmed, path)
    for tensor in (*skimmed.graph.initializer, *original.graph.initializer):
        tensor.ClearField("data_location")
    assert skimmed == original


def test_large_weights_are_left_in_the_file() -> None:
    skimmed = skim_proto(bundled_model())
    large = [tensor for tensor in skimmed.graph.initializer if tensor.external_data]
    sizes = [len(tensor.raw_data) for tensor in onnx.load(bundled_model()).graph.initializer]
    assert len(large) == sum(size >= SKIPPED_BYTES for size in sizes) > 0
    assert skimmed.ByteSize() < bundled_model().stat().st_size / 3
    for tensor in large:
        fields = {pair.key: pair.value for pair in tensor.external_data}
        assert fields["location"] == bundled_model().name
        assert int(fields["length"]) >= SKIPPED_BYTES


def test_mapped_model_computes_the_same() -> None:
    mapped = load_mapped(bundled_model(), skim_proto(bundled_model()))
    loaded = load(bundled_model())
    first, second = (
        {t.name: numpy_helper.to_array(t) for t in model.proto().graph.initializer}
        for model in (mapped, loaded)
    )
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"\x3a\xff\xff\xff\xff\x0f", b"\x08", b"\xff" * 30]
)
def test_damaged_file_has_the_error_of_a_file_that_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.onnx: "):
        skim_proto(path)


@pytest.mark.parametrize("size", [100, 5000, 300_000])
def test_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(bundled_model().read_bytes()[:size])
    with pytest.raises(ModelError, match="truncated"):
        skim_proto(path)

"""`--batch`, `--opset` and `--check` of `onnxcam augment`."""

from pathlib import Path

import onnx
import pytest
from onnx import parser

from onnxcam.cli import runtime_check
from onnxcam.portability import check as check_module
from tests.cli.conftest import Run

NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 4, 4] image) => (float[N, 4] logits) <float[4, 3, 1, 1] k = {
    0.1, 0.2, 0.3, 0.4, -0.5, 0.6, 0.7, -0.8, 0.9, 1.0, 1.1, -1.2 }> {
    a = Conv(image, k) b = Relu(a) m = GlobalAveragePool(b) logits = Flatten(m) }"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(parser.parse_model(NET), path)
    return path


def test_augment_fixes_batch_and_opset(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    result = run("augment", net, "-l", "b", "-o", path, "--batch", 2, "--opset", 19)
    assert result.exit_code == 0, result.output
    written = onnx.load(path)
    assert written.opset_import[0].version == 19
    sizes = [tensor.type.tensor_type.shape.dim[0].dim_value for tensor in written.graph.input]
    assert sizes == [2, 2]
    refused = run("augment", net, "-l", "b", "-o", tmp_path / "other.onnx", "--opset", 12)
    assert refused.exit_code == 2
    assert "expected 17 to 23" in refused.stderr


def test_check_prints_a_row_for_each_output(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    result = run("augment", net, "-l", "b", "-o", path, "--check", "onnx-reference,node")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert {row[2] for row in rows if row and row[0] == "onnx-reference"} == {
        *("logits", "gradient/b", "activation/b")
    }
    assert "not installed: npm install" in result.stdout


def test_check_that_differs_is_exit_code_2(
    run: Run, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "compare_arrays", lambda *_: (0.5, False))
    result = run(
        "augment", net, "-l", "b", "-o", tmp_path / "out.onnx", "--check", "onnx-reference"
    )
    assert result.exit_code == 2
    assert "wrong" in result.stdout
    assert "not right on onnx-reference" in result.stderr


def test_unknown_runtime_is_refused_before_anything_is_written(
    run: Run, net: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.onnx"
    result = run("augment", net, "-o", path, "--check", "tensorrt")
    assert result.exit_code == 2
    assert "no runtime 'tensorrt'" in result.stderr
    assert not path.exists()


def test_help_of_check_names_all_runtimes() -> None:
    from onnxcam.portability.runtimes import RUNTIMES

    option = runtime_check.Runtimes.__metadata__[0]  # type: ignore[attr-defined]
    assert all(name in option.help for name in RUNTIMES)


def test_embedded_file_of_any_name_is_checked(run: Run, net: Path, tmp_path: Path) -> None:
    """The file to check was looked for by its suffix, which ended in a traceback, after it was written."""
    path = tmp_path / "explained.bin"
    result = run("embed", net, "-m", "grad-cam", "-o", path, "--check", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "saliency" in result.stdout

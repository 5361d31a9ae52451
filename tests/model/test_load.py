"""Reading models from paths, bytes and protocol buffers; errors for everything that is not a model."""

import os
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from onnxcam.errors import ModelError, OutputError
from onnxcam.model.load import load
from tests.autodiff.support.check import numbers, run
from tests.support.limits import run_limited
from tests.support.nets import POOLED

TEXT = """<ir_version: {ir}, opset_import: ["" : {opset}]>
net (float[N, 3] x) => (float[N, 3] y) <float[3] w = {{1.0, -2.0, 3.0}}> {{ z = Mul(x, w) y = Relu(z) }}"""


def proto(ir: int = 8, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(TEXT.format(ir=ir, opset=opset))


def test_load_accepts_path_bytes_and_proto(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(proto(), path)
    models = [load(path), load(str(path)), load(path.read_bytes()), load(proto())]
    assert len({model.digest for model in models}) == 1
    assert models[0].name == "net.onnx"
    for model in models:
        assert [node.op for node in model.graph.nodes] == ["Mul", "Relu"]


def test_repr_of_model_is_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(proto(), path)
    assert repr(load(path)) == "Model('net.onnx', opset=17, nodes=2)"


def test_load_does_not_change_proto() -> None:
    source = proto(ir=3, opset=8)
    source.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    before = source.SerializeToString()
    load(source)
    assert source.SerializeToString() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "without a graph"),
        (b"not a model", "not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX model|without a graph"),
        (proto().SerializeToString()[:-20], "not an ONNX model|not a valid ONNX model"),
        (onnx.ModelProto().SerializeToString(), "without a graph"),
    ],
    ids=["empty", "text", "image", "cut off", "blank"],
)
def test_load_of_other_content_raises_model_error(
    content: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        load(content)
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx"):
        load(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_load_of_random_bytes_raises_model_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        load(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_load_of_damaged_file_raises_model_error_or_succeeds(data: st.DataObject) -> None:
    content = bytearray(proto().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        load(bytes(content))
    except ModelError:
        return


def test_load_of_folder_or_missing_file_raises_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "none.onnx")


def test_old_opset_raises_model_error() -> None:
    with pytest.raises(ModelError, match="has opset 6; export the model with opset 7 or newer"):
        load(proto(opset=6))


def test_invalid_model_raises_model_error() -> None:
    broken = proto()
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load(broken)


def test_initializers_among_inputs_become_constants() -> None:
    """IR version 3 requires them there, although they are constants."""
    old = proto(ir=3, opset=8)
    old.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    model = load(old)
    assert [tensor.name for tensor in model.graph.inputs] == ["x"]
    assert model.ir_version >= 4
    x = numbers(2, 3)
    expected = np.maximum(x * np.array([1, -2, 3], np.float32), 0)
    np.testing.assert_array_equal(run(model.proto(), {"x": x}, ["y"])[0], expected)


def test_external_data_is_read_and_saved_inside(tmp_path: Path) -> None:
    big = proto()
    del big.graph.initializer[:]
    big.graph.initializer.append(numpy_helper.from_array(numbers(3), "w"))
    path = tmp_path / "net.onnx"
    onnx.save(big, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    model = load(path)
    x = numbers(2, 3)
    expected = np.maximum(x * numbers(3), 0)
    np.testing.assert_allclose(run(model.proto(), {"x": x}, ["y"])[0], expected, rtol=1e-6)
    model.save(tmp_path / "complete.onnx")
    (tmp_path / "net.bin").unlink()
    assert load(tmp_path / "complete.onnx").opset == 17
    with pytest.raises(ModelError, match="external data"):
        load(path)


def test_local_functions_are_inlined() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    net (float[N] x) => (float[N] y) { y = own.twice(x) }
    <domain: "own", opset_import: ["" : 17]>
    twice (a) => (b) { t = Tanh(a) b = Add(t, t) }"""
    model = load(parser.parse_model(text))
    assert [node.op for node in model.graph.nodes] == ["Tanh", "Add"]
    x = numbers(4)
    np.testing.assert_allclose(run(model.proto(), {"x": x}, ["y"])[0], 2 * np.tanh(x), rtol=1e-6)


@pytest.mark.parametrize(("ir", "opset"), [(6, 11), (8, 17), (10, 21)])
def test_versions_and_metadata_are_preserved(ir: int, opset: int) -> None:
    source = proto(ir, opset)
    helper.set_model_props(source, {"task": "cats"})
    result = load(source).proto()
    assert (result.ir_version, result.opset_import[0].version) == (ir, opset)
    assert {prop.key: prop.value for prop in result.metadata_props} == {"task": "cats"}
    onnx.checker.check_model(result, full_check=True)


def test_inferred_size_names_are_not_written() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, C, H] x) => (float[a, b, c] y) { y = MaxPool<kernel_shape = [2]>(x) }"""
    written = load(parser.parse_model(text)).proto()
    names = {dim.dim_param for dim in written.graph.output[0].type.tensor_type.shape.dim}
    assert names <= {"N", "C", ""}


def test_save_to_unwritable_path_raises_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError):
        load(proto()).save(tmp_path / "file" / "net.onnx")


def test_copy_does_not_share_graph() -> None:
    model = load(proto())
    copied = model.copy()
    copied.graph.nodes[0].name = copied.graph.nodes[0].outputs[0].name = "other"
    copied.graph.nodes.clear()
    assert [node.op for node in model.graph.nodes] == ["Mul", "Relu"]
    assert "other" not in model.graph.tensors()


@pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")
def test_endless_or_too_large_files_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(8 << 30)
    (tmp_path / "link.onnx").symlink_to("/dev/zero")
    code = (
        "import onnxcam\n"
        f"for name in ('/dev/zero', '{tmp_path}/link.onnx', '{tmp_path}/sparse.onnx'):\n"
        "    try:\n        onnxcam.load(name)\n"
        "    except onnxcam.OnnxcamError as error:\n        print(error)\n"
    )
    ended = run_limited(code, seconds=30, megabytes=1500)
    lines = ended.stdout.splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == [
        *("zero", "link.onnx", "sparse.onnx")
    ]
    assert ["a device" in line for line in lines] == [True, True, False]
    assert "8589934592 bytes, more than the 2147483647" in lines[2]


@pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")
def test_load_reads_from_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(proto().SerializeToString(),))
    writer.start()
    assert load(pipe).opset == 17
    writer.join()


def test_proto_that_cannot_be_serialized_raises_model_error() -> None:
    deep = onnx.ModelProto(ir_version=8)
    graph = deep.graph
    for _ in range(60):
        node = graph.node.add(op_type="If", output=["y"])
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    with pytest.raises(ModelError, match=r"cannot be serialized|truncated"):
        load(deep)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"equation", b"equat\xeeon"),  # the name of an attribute
        (b"ij,jk", b"ij,j\xee"),  # its text
        (b"constant", b"c\xeenstant"),  # the name of a tensor in an attribute
        (b"middle", b"m\xeeddle"),  # a tensor
        (b"rows", b"r\xeews"),  # a size
        (b"inner", b"\xeenner"),  # a graph
        (b"Einsum", b"E\xeensum"),
        (b"weights", b"we\xeeghts"),  # an initializer
    ],
)
def test_names_that_are_not_utf8_are_refused(old: bytes, new: bytes) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[rows, 3] x) => (float[rows, 3] y)
        <float[3, 3] weights = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        c = Constant<value = float[3] constant {1, 2, 3}>() flag = Constant<value = bool {1}>()
        middle = Einsum<equation = "ij,jk">(x, weights)
        y = If(flag) <then_branch = inner () => (float[rows, 3] a) { a = Mul(middle, c) },
                      else_branch = other () => (float[rows, 3] b) { b = Add(middle, c) }> }"""
    content = parser.parse_model(text).SerializeToString()
    assert next(node.op for node in load(content).graph.nodes) == "Einsum"
    assert old in content
    with pytest.raises(ModelError, match=r"not UTF-8 text|not an ONNX model"):
        load(content.replace(old, new))


@pytest.mark.parametrize(
    "body",
    [
        "o = Optional(x) y = OptionalGetElement(o)",
        "s = SequenceConstruct(x, x) o = Optional(s) t = OptionalGetElement(o) y = SequenceAt(t, zero)",
        """e = If(flag) <then_branch = a () => (optional(float[N, 3]) p) { p = Optional(x) },
            else_branch = b () => (optional(float[N, 3]) q) { q = Optional(x) }>
            y = OptionalGetElement(e)""",
    ],
)
def test_optional_tensors_are_loaded(body: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 18]> net (float[N, 3] x, bool flag) => (float[N, 3] y)
        <int64 zero = {{0}}> {{ {body} }}"""
    assert load(parser.parse_model(text)).graph.outputs[0].name == "y"


@pytest.mark.parametrize("old", [b"names", b"cat"])
def test_metadata_that_is_not_utf8_is_replaced(old: bytes) -> None:
    proto = POOLED.proto()
    helper.set_model_props(proto, {"names": "{0: 'cat'}"})
    content = proto.SerializeToString().replace(old, b"\xff" + old[1:])
    model = load(content)
    (key_and_value,) = model.metadata.items()
    assert "\ufffd" in "".join(key_and_value)
    assert load(model.bytes()).metadata == model.metadata

"""What would crash ONNX's shape inference, keep it busy forever, or fill the memory is refused. Such models are
loaded in separate processes with limits of memory and time.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.model.proto.inference_limits import check_loops, has_short_shapes
from onnxcam.model.proto.walk import all_scopes
from tests.support.limits import run_limited


def model_of_nodes(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A model of these nodes, from x to y."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def if_branches(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The node in both branches of an If."""
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    branches = {
        f"{name}_branch": helper.make_graph([node], name, [], out) for name in ("then", "else")
    }
    return [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Greater", ["size", "none"], ["is_not_empty"]),
        helper.make_node("If", ["is_not_empty"], ["y"], **branches),
    ]


def model_of_function(node: onnx.NodeProto) -> onnx.ModelProto:
    """A model that calls a function with this node."""
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "f", list(node.input), ["y"], [node], imports)
    proto = model_of_nodes([helper.make_node("f", list(node.input), ["y"], domain="own")])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    *(("GatherND", {"batch_dims": n}) for n in (-(2**31), -(2**63), -5, -1, 2**31, 2**62, 65)),
    *(
        ("LayerNormalization", {"axis": n})
        for n in (2**31, 2**31 + 1, 2**63 - 1, -(2**31) - 1, -(2**63), 1000)
    ),
    *(("Softmax", {"axis": n}) for n in (2**31, -(2**63), 99)),
    ("Transpose", {"perm": [2**40, 0, 1, 2]}),
    ("Transpose", {"perm": [0] * 100}),
    ("Concat", {"axis": -(2**63)}),
    *(("Split", {"axis": 1, "num_outputs": n}) for n in (2**31, 2**62, 10**6, 0, -1)),
    *(
        ("Einsum", {"equation": e})
        for e in ("ij\\t->i", "\\x01>", "ij\\x7f->ij", "i\n", "é", "i1->i")
    ),
]


def node_of(operator: str, attributes: dict[str, Any]) -> onnx.NodeProto:
    extra = {"GatherND": ["indices"], "LayerNormalization": ["scale"]}.get(operator, [])
    return helper.make_node(operator, ["x", *extra], ["y"], **attributes)


@pytest.mark.parametrize("where", ["alone", "branch", "function"])
def test_attribute_that_crashes_inference_is_refused(where: str, tmp_path: Any) -> None:
    """One process for all models: it ends by itself, and reports an error for each."""
    for i, (operator, attributes) in enumerate(HOSTILE):
        node = node_of(operator, attributes)
        constants: dict[str, Any] = {
            "indices": np.zeros((2, 1), np.int64),
            "scale": np.ones(4, np.float32),
        }
        if where == "function":
            proto = model_of_function(node)
            proto.graph.initializer.extend(
                numpy_helper.from_array(v, n) for n, v in constants.items()
            )
        else:
            nodes = [node] if where == "alone" else if_branches(node)
            proto = model_of_nodes(nodes, **constants, none=np.int64(0))
        (tmp_path / f"{i:03}.onnx").write_bytes(proto.SerializeToString())
    ended = run_limited(
        "import sys, pathlib, onnxcam\n"
        "from onnxcam.errors import ModelError\n"
        f"for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):\n"
        "    try:\n"
        "        onnxcam.load(path)\n"
        "    except ModelError as error:\n"
        "        print(error)\n",
        seconds=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == len(HOSTILE)
    for i, (line, (operator, attributes)) in enumerate(zip(lines, HOSTILE, strict=True)):
        assert line.startswith(
            f"{i:03}.onnx: not a valid ONNX model ({operator} 'y': the attribute "
        )
        assert list(attributes)[-1] in line
        assert line.endswith("export it again")


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Softmax", {"axis": -1}),
        ("Softmax", {"axis": 3}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("Einsum", {"equation": "...ij -> ...ji"}),
        ("Einsum", {"equation": "bcij->bc"}),
        ("GatherND", {"batch_dims": 1}),
        ("LayerNormalization", {"axis": -2}),
        ("Split", {"axis": 1, "num_outputs": 1}),
    ],
)
def test_valid_attribute_is_accepted(operator: str, attributes: dict[str, Any]) -> None:
    constants: dict[str, Any] = {
        "indices": np.zeros((2, 1), np.int64),
        "scale": np.ones((4, 4), np.float32),
    }
    model = load(model_of_nodes([node_of(operator, attributes)], **constants))
    assert model.graph.outputs[0].shape is not None


def chain(operator: str, length: int, **attributes: Any) -> list[onnx.NodeProto]:
    """A shape that is doubled repeatedly, and used."""
    nodes = [helper.make_node("Shape", ["x"], ["s0"])]
    nodes += [
        helper.make_node(operator, [f"s{i}", f"s{i}"], [f"s{i + 1}"], **attributes)
        for i in range(length)
    ]
    total = helper.make_node("ReduceSum", [f"s{length}"], ["total"], keepdims=0)
    cast = helper.make_node("Cast", ["total"], ["c"], to=TensorProto.FLOAT)
    return [*nodes, total, cast, helper.make_node("Mul", ["x", "c"], ["y"])]


def test_shapes_that_double_are_not_propagated() -> None:
    """The inference would store 4 * 2 ** 24 sizes of about 60 bytes each."""
    long, short = (model_of_nodes(chain("Concat", n, axis=0)) for n in (24, 8))
    assert not has_short_shapes(long.graph)
    assert has_short_shapes(short.graph)
    code = (
        "import onnxcam, tests.model.proto.test_inference_limits as t\n"
        "model = onnxcam.load(t.model_of_nodes(t.chain('Concat', 16, axis=0)))\n"
        "try:\n"
        "    onnxcam.load(t.model_of_nodes(t.chain('Concat', 28, axis=0)))\n"
        "except onnxcam.OnnxcamError as error:\n"
        "    print(error)\n"
        "print('ended', len(model.graph.nodes))\n"
    )
    ended = run_limited(code, seconds=60, megabytes=2500)
    assert ended.returncode == 0, ended.stderr
    assert "ended" in ended.stdout


@pytest.mark.parametrize("sizes", [[], [2**40], [1] * 70])
def test_impossible_sizes_are_refused_or_loaded(sizes: list[int]) -> None:
    """Targets of a Reshape: the model is refused, or loaded for ONNX Runtime to judge."""
    node = helper.make_node("Reshape", ["x", "t"], ["y"])
    try:
        onnxcam.load(model_of_nodes([node], t=np.array(sizes, np.int64)))
    except ModelError as error:
        assert len(str(error)) > 10  # noqa: PT017


@pytest.mark.parametrize(
    "limits",
    [
        np.array([2**31 - 1, 6, -3], np.int32),
        np.array([0, 2**31 - 1, 2], np.int32),
        np.array([0, 2**40, 1]),
    ],
)
@pytest.mark.parametrize("written", ["initializers", "nodes"])
def test_huge_range_is_not_propagated(limits: np.ndarray[Any, Any], written: str) -> None:
    """The inference would store every number."""
    model = model_of_range(limits, as_nodes=written == "nodes")
    assert not has_short_shapes(model.graph)
    code = (
        "import numpy as np, onnxcam, tests.model.proto.test_inference_limits as t\n"
        f"limits = np.array({limits.tolist()}, np.{limits.dtype})\n"
        "try:\n"
        f"    onnxcam.load(t.model_of_range(limits, as_nodes={written == 'nodes'}))\n"
        "except onnxcam.OnnxcamError as error:\n"
        "    print(error)\n"
        "print('ended')\n"
    )
    ended = run_limited(code, seconds=60, megabytes=2000)
    assert "ended" in ended.stdout, ended.stderr
    assert "memory" not in ended.stdout


@pytest.mark.parametrize("limits", [[0, 14, 1], [3, 0, -1], [5, 0, 1], [0, 5, 0]])
def test_short_range_is_propagated(limits: list[int]) -> None:
    assert has_short_shapes(model_of_range(np.array(limits)).graph)


LONG = {
    "RandomNormal": ([helper.make_node("RandomNormal", [], ["a"], shape=[2**40])], {}, []),
    "RandomUniform": ([helper.make_node("RandomUniform", [], ["a"], shape=[2**63 - 1])], {}, []),
    "ConstantOfShape": (
        [helper.make_node("ConstantOfShape", ["s"], ["a"])],
        {"s": np.array([2**40])},
        [],
    ),
    "input": ([], {}, [helper.make_tensor_value_info("a", TensorProto.FLOAT, [2**30])]),
}


@pytest.mark.parametrize("source", LONG)
def test_long_vector_is_not_propagated(source: str) -> None:
    """A Cast of a vector makes the inference store every number."""
    nodes, constants, inputs = LONG[source]
    cast = helper.make_node("Cast", ["a"], ["b"], to=TensorProto.DOUBLE)
    model = model_of_nodes([*nodes, cast, helper.make_node("Identity", ["x"], ["y"])], **constants)
    model.graph.input.extend(inputs)
    assert not has_short_shapes(model.graph)


@pytest.mark.parametrize("shape", [[2**40, 3], [7]])
def test_short_vector_is_propagated(shape: list[int]) -> None:
    random = helper.make_node("RandomNormal", [], ["a"], shape=shape)
    cast = helper.make_node("Cast", ["a"], ["b"], to=TensorProto.DOUBLE)
    model = model_of_nodes([random, cast, helper.make_node("Identity", ["x"], ["y"])])
    assert has_short_shapes(model.graph)


def model_of_range(limits: np.ndarray[Any, Any], *, as_nodes: bool = False) -> onnx.ModelProto:
    """A model that adds the maximum of a Range to its input."""
    names = ("start", "limit", "delta")
    nodes = [
        helper.make_node("Range", names, ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["c"], ["top"], keepdims=0),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    if not as_nodes:
        return model_of_nodes(nodes, **dict(zip(names, limits, strict=True)))
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(number))
        for name, number in zip(names, limits.reshape(3, 1)[:, 0], strict=True)
    ]
    return model_of_nodes([*constants, *nodes])


@pytest.mark.parametrize("value", [2, -1, 64, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    ("operator", "inputs", "flag", "extra"),
    [
        ("ReduceMean", ["x"], "keepdims", {}),
        ("AveragePool", ["x"], "count_include_pad", {"kernel_shape": [2, 2]}),
        ("MaxPool", ["x"], "ceil_mode", {"kernel_shape": [2, 2]}),
        ("CumSum", ["x", "none"], "exclusive", {}),
        ("GridSample", ["x", "grid"], "align_corners", {}),
        ("Reshape", ["x", "sizes"], "allowzero", {}),
    ],
)
def test_flag_other_than_0_or_1_is_refused(
    operator: str, inputs: list[str], flag: str, extra: dict[str, Any], value: int
) -> None:
    constants = {
        "none": np.array(1),
        "grid": np.zeros((2, 2, 2, 2), np.float32),
        "sizes": np.array([2, 3, 16]),
    }
    node = helper.make_node(operator, inputs, ["y"], **extra, **{flag: value})
    with pytest.raises(ModelError, match=f"{flag} is {value}, expected 0 or 1"):
        load(model_of_nodes([node], **constants))
    for valid in (0, 1):
        node = helper.make_node(operator, inputs, ["y"], **extra, **{flag: valid})
        load(model_of_nodes([node], **constants))


@pytest.mark.parametrize("value", [2, 64, 2**63 - 1])
def test_flag_of_rotary_embedding_or_window_is_checked(value: int) -> None:
    """ONNX Runtime interprets other values differently from ONNX's definition."""
    cache = np.ones((2, 4, 2), np.float32)
    rotary = helper.make_node("RotaryEmbedding", ["x", "c", "c"], ["y"], interleaved=value)
    windows = [
        [
            helper.make_node(window, ["n"], ["w"], periodic=value),
            helper.make_node("Mul", ["x", "w"], ["y"]),
        ]
        for window in ("HannWindow", "HammingWindow", "BlackmanWindow")
    ]
    for nodes in ([rotary], *windows):
        proto = model_of_nodes(nodes, c=cache, n=np.array(4))
        proto.opset_import[0].version = 23
        with pytest.raises(ModelError, match=f"is {value}, expected 0 or 1"):
            load(proto)


def test_flag_of_other_domain_is_not_checked() -> None:
    node = helper.make_node("Own", ["x"], ["y"], domain="own", keepdims=7)
    proto = model_of_nodes([node])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    load(proto)


def model_of_loop(
    count: Any, start: bool | None, condition: str, *, as_nodes: bool = False
) -> onnx.ModelProto:
    """A model with a Loop that has this count and first condition (None: none). Its body returns the condition
    (`same`), also through Identity (`copied`), returns a constant, or computes a condition from x.
    """
    ends = {"same": "c", "copied": "copy", "always": "true", "never": "false", "computed": "less"}
    inner = {
        "copied": [helper.make_node("Identity", ["c"], ["copy"])],
        "computed": [
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
            helper.make_node("Less", ["total", "bound"], ["less"]),
        ],
    }
    true, false = (
        numpy_helper.from_array(np.array(value), name)
        for value, name in ((True, "true"), (False, "false"))
    )
    body = helper.make_graph(
        [*inner.get(condition, []), helper.make_node("Relu", ["x"], ["inner"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(ends[condition], TensorProto.BOOL, []),
            helper.make_tensor_value_info("inner", TensorProto.FLOAT, None),
        ],
        [true, false],
    )
    loop = helper.make_node(
        "Loop", ["" if count is None else "n", "" if start is None else "s"], ["many"], body=body
    )
    constants: dict[str, Any] = {"bound": np.float32(0)}
    constants |= {} if count is None else {"n": np.array(count)}
    constants |= {} if start is None else {"s": np.array(start)}
    mean = helper.make_node("ReduceMean", ["many", "first"], ["y"], keepdims=0)
    nodes = [loop, mean]
    if as_nodes:
        nodes = [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))
            for name, value in constants.items()
        ] + nodes
        constants = {}
    return model_of_nodes(nodes, first=np.array([0]), **constants)


@pytest.mark.parametrize("as_nodes", [False, True])
@pytest.mark.parametrize("condition", ["same", "copied", "always"])
@pytest.mark.parametrize(
    ("count", "start"), [(None, None), (None, True), (2**40, None), (2**63 - 1, True)]
)
def test_endless_loop_is_refused(
    count: int | None, start: bool | None, condition: str, as_nodes: bool
) -> None:
    """ONNX Runtime runs them until the memory is full."""
    with pytest.raises(ModelError, match="its loop does not end within"):
        load(model_of_loop(count, start, condition, as_nodes=as_nodes))


@pytest.mark.parametrize(
    ("count", "start", "condition"),
    [
        (3, None, "same"),
        (3, True, "always"),
        (2**20, True, "copied"),
        (None, False, "same"),
        (None, True, "never"),
        (2**63 - 1, True, "computed"),
        (None, None, "computed"),
    ],
)
def test_loop_that_ends_is_accepted(count: int | None, start: bool | None, condition: str) -> None:
    """For `while`, torch writes the largest possible count."""
    check_loops(all_scopes(model_of_loop(count, start, condition)), "net")


@pytest.mark.parametrize("count", [2**17, 2**48, 2**63 - 1])
def test_huge_skip_count_is_refused(count: int) -> None:
    node = helper.make_node(
        "TfIdfVectorizer",
        ["words"],
        ["y"],
        mode="TF",
        max_gram_length=2,
        min_gram_length=1,
        max_skip_count=count,
        ngram_counts=[0, 4],
        ngram_indexes=[0, 1],
        pool_int64s=[1, 2],
    )
    with pytest.raises(ModelError, match=f"max_skip_count is {count}, expected at most"):
        load(model_of_nodes([node], words=np.array([[1, 2, 3]])))


@pytest.mark.parametrize(
    ("equation", "count"), [("", 2), ("ij", 2), ("ij->ij", 2), ("bcij,bcij->b", 1), ("a,b,c", 2)]
)
def test_equation_with_wrong_operand_count_is_refused(equation: str, count: int) -> None:
    node = helper.make_node("Einsum", ["x"] * count, ["y"], equation=equation)
    with pytest.raises(ModelError, match=f"operands; the node has {count}"):
        load(model_of_nodes([node]))


@pytest.mark.parametrize("scale", [-1.0, -1e-30, float("-inf"), 0.0, float("nan")])
def test_random_normal_without_positive_scale_is_refused(scale: float) -> None:
    """ONNX Runtime would end the process."""
    like = helper.make_node("RandomNormalLike", ["x"], ["y"], scale=scale)
    without_input = helper.make_node("RandomNormal", [], ["y"], scale=scale, shape=[2, 3])
    for node in (like, without_input):
        with pytest.raises(ModelError, match="expected more than 0"):
            load(model_of_nodes([node]))


@pytest.mark.parametrize(
    "limits", [{"high": float("nan")}, {"low": float("nan")}, {"low": 2.0}, {"low": 3, "high": 2}]
)
def test_random_uniform_with_invalid_limits_is_refused(limits: dict[str, float]) -> None:
    """ONNX Runtime would end the process."""
    floats = {name: float(limit) for name, limit in limits.items()}
    like = helper.make_node("RandomUniformLike", ["x"], ["y"], **floats)
    without_input = helper.make_node("RandomUniform", [], ["y"], shape=[2, 3], **floats)
    for node in (like, without_input):
        with pytest.raises(ModelError, match=r"expected low .* <= high"):
            load(model_of_nodes([node]))


def test_random_uniform_with_equal_limits_is_accepted() -> None:
    load(model_of_nodes([helper.make_node("RandomUniformLike", ["x"], ["y"], low=-1.0, high=-1.0)]))

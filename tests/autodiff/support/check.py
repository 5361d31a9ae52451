"""Gradients that onnxcam writes, run by ONNX Runtime in float32, against differences in float64."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.differences import Doubles, KinkError, function, in_float64, slope

TOLERANCE = 2e-5  # of the norm of the gradient: float32 rounding, and no more
LEAST = 1e-3  # a gradient of a smaller norm is measured against this
SMALL = 16  # elements: up to here every one is checked, beyond some of them and random mixtures
NEWEST_IR = 13  # of ONNX Runtime 1.31


def numbers(
    *shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0
) -> NDArray[np.float32]:
    """Distinct float32 numbers, no two closer than the range over twice their count, none at 0."""
    generator = np.random.default_rng([seed, *shape])
    count = int(np.prod(shape))
    steps = (generator.permutation(count) + generator.uniform(0.3, 0.7, count)) / max(count, 1)
    return (low + (high - low) * steps).astype(np.float32).reshape(shape)


def check_vjp(
    op: str,
    *arrays: Any,
    wrt: Collection[int] = (0,),
    opset: int = 17,
    dynamic: Collection[int] = (),
    alike: bool = True,
    outputs: int = 1,
    of: int = 0,
    **attributes: Any,
) -> Model:
    """Check one operator. Inputs of the slots `wrt` are fed, the others are constants, None is left out.

    The axes `dynamic` of what is fed have names instead of sizes: the same name for the same size, or
    (not `alike`) a name for each. Returns the model with the gradient.
    """
    given: list[Any] = [None if each is None else np.asarray(each) for each in arrays]
    names = ["" if each is None else f"x{slot}" for slot, each in enumerate(given)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="node", **attributes)
    feed = {names[slot]: given[slot] for slot in wrt}
    fixed = {n: each for n, each in zip(names, given, strict=True) if n and n not in feed}
    proto = one_node_model(node, feed, fixed, opset, dynamic, alike)
    return check_model(proto, feed, list(feed), f"y{of}")


def one_node_model(
    node: onnx.NodeProto,
    feed: Mapping[str, Array],
    fixed: Mapping[str, Array],
    opset: int,
    dynamic: Collection[int] = (),
    alike: bool = True,
) -> onnx.ModelProto:
    """A model of one node: `feed` says the inputs, `fixed` the constants."""
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(each.dtype),
            [
                (f"n{size}" if alike else f"{name}_{axis}") if axis in dynamic else size
                for axis, size in enumerate(each.shape)
            ],
        )
        for name, each in feed.items()
    ]
    outputs = [helper.make_tensor_value_info(each, 0, None) for each in node.output if each]
    constants = [numpy_helper.from_array(each, name) for name, each in fixed.items()]
    graph = helper.make_graph([node], "one", inputs, outputs, constants)
    return with_output_types(of_graph(graph, opset))


def of_graph(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model that ONNX Runtime reads."""
    imports = [helper.make_opsetid("", opset)]
    ir_version = min(helper.find_min_ir_version_for(imports, ignore_unknown=True), NEWEST_IR)
    return helper.make_model(graph, opset_imports=imports, ir_version=max(ir_version, 4))


def with_output_types(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of its outputs worked out; where their rank is not, it is kept."""
    declared = list(proto.graph.output)
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in declared}
    del proto.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    found = {each.name: each for each in inferred.graph.value_info}
    for each in declared:
        tensor = found.get(each.name, each).type.tensor_type
        tensor.elem_type = (
            tensor.elem_type or onnx.TensorProto.FLOAT
        )  # onnx has no inference for it
        if not tensor.HasField("shape"):
            tensor.shape.dim.extend(
                onnx.TensorShapeProto.Dimension() for _ in range(ranks[each.name])
            )
        proto.graph.output.append(found.get(each.name, each))
    return proto


def check_model(
    proto: onnx.ModelProto, feed: Mapping[str, Any], wrt: Sequence[str], of: str
) -> Model:
    """Check the gradients of a whole model, one input after the other, in several directions."""
    augmented = gradient(load(proto), wrt, of)
    emitted = augmented.proto()
    assert_valid(emitted, {each.domain for each in proto.graph.node})
    value = np.asarray(run(proto, feed, [of])[0])
    generator = np.random.default_rng(len(feed))
    cotangent = generator.normal(size=value.shape).astype(value.dtype)
    names = [f"gradient/{each}" for each in wrt]
    found = run(emitted, {**feed, SEED: cotangent}, [of, *names])
    np.testing.assert_allclose(found[0], value, rtol=1e-5, atol=1e-6)
    evaluator = in_float64(proto)
    for name, each in zip(wrt, found[1:], strict=True):
        assert each.shape == feed[name].shape
        assert each.dtype == feed[name].dtype
        x, g = feed[name].astype(np.float64), each.astype(np.float64)
        f = function(evaluator, feed, name, of)
        here = f(x)
        np.testing.assert_allclose(here, value, 1e-2, 1e-3, err_msg="evaluator, not runtime:")
        if not np.isfinite(g).all():
            raise KinkError(f"the gradient of {name} is infinite or not a number")
        for direction in directions(x.shape, generator):
            exact = slope(f, x, here, direction, cotangent.astype(np.float64))
            allowed = TOLERANCE * max(float(np.linalg.norm(g)), LEAST)
            told = float(np.sum(g * direction))
            assert abs(told - exact) <= allowed, f"{name}: {told} by the rule, {exact} measured"
    return augmented


def directions(shape: tuple[int, ...], generator: np.random.Generator) -> Iterator[Doubles]:
    """Every element of few; of many two mixtures of all and four alone."""
    count = int(np.prod(shape))
    if count > SMALL:
        for _ in range(2):
            yield generator.normal(size=shape)
    alone = range(count) if count <= SMALL else generator.choice(count, 4, replace=False)
    for index in alone:
        one = np.zeros(count)
        one[index] = 1.0
        yield one.reshape(shape)


def assert_valid(emitted: onnx.ModelProto, known_domains: Collection[str] = ("",)) -> None:
    """The checker has nothing to say, and no domain is new."""
    onnx.checker.check_model(emitted, full_check=True)
    assert {each.domain for each in emitted.graph.node} <= {"", *known_domains}


def run(proto: onnx.ModelProto, feed: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The outputs of a model by ONNX Runtime on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {each.name for each in session.get_inputs()}
    return list(session.run(list(names), {n: each for n, each in feed.items() if n in wanted}))

"""Every operator of ONNX's schemas, between the image and the score, with hostile attributes.

The inputs are those of ONNX's own test cases or, if an operator has none, arrays of the types that it takes.
The first float input depends on the image: C + D s, where s is the mean of the features. What the operator
returns goes through Tanh, is summed, and is added to the score of every class with a weight.
"""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, defs, helper, numpy_helper

from scripts.fuzz import values
from scripts.fuzz.case import Case
from scripts.fuzz.graphs import hostile_attribute, hostile_tensor
from scripts.fuzz.models import model_case

MAX_EXAMPLES = 4  # cases of one operator
KINDS = {"float": np.float32, "int64": np.int64}
MAX_INPUT_BYTES = 20_000  # bytes of a case's inputs
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
HEAD = """<ir_version: 10, opset_import: ["": {opset}]>
g (float[1, 3, 6, 6] x) => (float[1, 5] y) {{
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)
    f = Relu(c)
    s = ReduceMean<keepdims = 0>(f)
    p = GlobalAveragePool(f)
    t = Flatten(p)
    l = Gemm<transB = 1>(t, v, d)
}}"""


@dataclass(frozen=True)
class Example:
    """A node with valid inputs, and whether ONNX Runtime opens it."""

    name: str
    node: bytes
    inputs: dict[str, bytes]
    opset: int
    runs: bool = False


@lru_cache(maxsize=1)
def examples() -> dict[str, list[Example]]:
    """By operator, `domain::name`, those that the runtime takes first. Cached: collecting takes seconds."""
    path = (
        Path(__file__).parent
        / "__pycache__"
        / f"operators-{onnx.__version__}-{ort.__version__}.pickle"
    )
    try:
        return dict(pickle.loads(path.read_bytes()))
    except Exception:  # noqa: BLE001  it is missing, or of an older class
        operators = _collect_examples()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(operators))
        return operators


def _collect_examples() -> dict[str, list[Example]]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # the generators compute with infinities and NaNs on purpose
        warnings.simplefilter("ignore")
        cases = sorted(collect_testcases(None), key=lambda case: case.name)
    operators: dict[str, list[Example]] = {}
    for schema in defs.get_all_schemas():
        operators[f"{schema.domain}::{schema.name}"] = []
    for case in cases:
        nodes = case.model.graph.node
        listed = operators.get(f"{nodes[0].domain}::{nodes[0].op_type}")
        if len(nodes) == 1 and listed is not None and (example := _example(case)):
            listed.append(example)
    for key, listed in operators.items():
        operators[key] = _select_examples([*listed, _plain_example(*key.split("::"))])
    return dict(sorted(operators.items()))


def _select_examples(examples: list[Example]) -> list[Example]:
    """The examples that are kept, those that the runtime takes first; no more are tried than needed."""
    tried: list[Example] = []
    for example in examples:
        tried.append(_try_in_runtime(example))
        if sum(example.runs for example in tried) == MAX_EXAMPLES:
            break
    return sorted(tried, key=lambda example: not example.runs)[:MAX_EXAMPLES]


def _example(case: Any) -> Example | None:
    names = [tensor.name for tensor in case.model.graph.input]
    inputs = {}
    for name, content in zip(names, case.data_sets[0][0], strict=False):
        if isinstance(content, list) or content is None:
            return None
        tensor = (
            content
            if isinstance(content, TensorProto)
            else numpy_helper.from_array(np.asarray(content))
        )
        inputs[name] = bytes(tensor.SerializeToString())
    if sum(map(len, inputs.values())) > MAX_INPUT_BYTES:
        return None
    opset = min(
        case.model.opset_import[0].version if not case.model.graph.node[0].domain else 21, 24
    )
    return Example(case.name, case.model.graph.node[0].SerializeToString(), inputs, opset)


def _plain_example(domain: str, operator: str) -> Example:
    """Arrays of (1, 4, 4, 4), or of (2, 4) for classical learners, for all required inputs."""
    schema = defs.get_schema(operator, domain=domain)
    inputs: dict[str, bytes] = {}
    for number, parameter in enumerate(schema.inputs):
        if number >= max(schema.min_input, 1):
            break
        types = parameter.types
        fitting = [kind for name, kind in KINDS.items() if f"tensor({name})" in types]
        shape = (2, 4) if domain == "ai.onnx.ml" else (1, 4, 4, 4)
        numbers = np.random.default_rng(number).uniform(0.2, 0.9, shape)
        array: Any = numbers.astype(fitting[0] if fitting else np.bool_)
        inputs[f"i{number}"] = bytes(numpy_helper.from_array(array).SerializeToString())
    outputs = [f"o{number}" for number in range(max(schema.min_output, 1))]
    node = helper.make_node(operator, list(inputs), outputs, domain=domain)
    for name, attribute in schema.attributes.items():
        if attribute.required:
            node.attribute.append(hostile_attribute(name, int(attribute.type.value), Random(1)))
    return Example(f"{operator} plain", bytes(node.SerializeToString()), inputs, 21)


def _try_in_runtime(example: Example) -> Example:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    node = onnx.NodeProto.FromString(example.node)
    try:
        content = model_of(node, _tensors(example), example.opset, Random(0)).SerializeToString()
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  whatever the runtime raises
        return example
    return Example(example.name, example.node, example.inputs, example.opset, True)


def _tensors(example: Example) -> dict[str, TensorProto]:
    tensors = {}
    for name, content in example.inputs.items():
        tensors[name] = TensorProto.FromString(content)
        tensors[name].name = name
    return tensors


def model_of(
    node: onnx.NodeProto, tensors: dict[str, TensorProto], opset: int, draw: Random
) -> onnx.ModelProto:
    """The model with the node between the image and the score."""
    proto = onnx.parser.parse_model(HEAD.format(opset=opset))
    generator = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "w": (4, 3, 3, 3),
        "b": (4,),
        "v": (5, 4),
        "d": (5,),
        "z": (5,),
    }
    for name, shape in shapes.items():
        array = generator.normal(0, 0.4, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    placed = onnx.NodeProto()
    placed.CopyFrom(node)
    names = {name: f"in/{name}" for name in node.input if name}
    linked = False
    for name, tensor in tensors.items():
        tensor.name = names.get(name, name)
        if tensor.data_type in FLOATS and _is_small(tensor) and (not linked or draw.random() < 0.1):
            proto.graph.node.extend(_link(proto, tensor, generator))
            linked = True
        else:
            proto.graph.initializer.append(tensor)
    del placed.input[:], placed.output[:]
    placed.input.extend(names.get(name, "") for name in node.input)
    placed.output.extend(f"out/{name}" if name else "" for name in node.output)
    proto.graph.node.append(placed)
    proto.graph.node.extend(_tail(placed))
    if node.domain:
        proto.opset_import.append(
            helper.make_opsetid(
                node.domain, defs.get_schema(node.op_type, domain=node.domain).since_version
            )
        )
    return proto


def _is_small(tensor: TensorProto) -> bool:
    """Whether its sizes are those of a small array."""
    sizes = [int(dim) for dim in tensor.dims]
    return (
        min(sizes, default=0) >= 0 and math.prod(max(size, 1) for size in sizes) < MAX_INPUT_BYTES
    )


def _link(
    proto: onnx.ModelProto, tensor: TensorProto, generator: np.random.Generator
) -> Iterable[onnx.NodeProto]:
    """The nodes that add D s to a constant C."""
    name, shape = tensor.name, list(tensor.dims)
    tensor.name = f"{name}/C"
    slopes = generator.normal(0, 0.1, shape).astype(np.float32)
    proto.graph.initializer.extend(
        [tensor, numpy_helper.from_array(np.asarray(slopes), f"{name}/D")]
    )
    yield helper.make_node("Mul", [f"{name}/D", "s"], [f"{name}/Ds"])
    yield helper.make_node("Cast", [f"{name}/Ds"], [f"{name}/cast"], to=tensor.data_type)
    yield helper.make_node("Add", [f"{name}/C", f"{name}/cast"], [name])


def _tail(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
    """The nodes from the operator's first output (for a sequence, from its length) to the scores."""
    result = next((name for name in node.output if name), "l")
    if (
        node.op_type.startswith(("Sequence", "Split"))
        and node.op_type != "SequenceAt"
        and "Sequence" in node.op_type
    ):
        yield helper.make_node("SequenceLength", [result], ["length"])
        result = "length"
    yield helper.make_node("Cast", [result], ["out"], to=TensorProto.FLOAT)
    yield helper.make_node("Tanh", ["out"], ["squeezed"])
    yield helper.make_node("ReduceSum", ["squeezed"], ["sum"], keepdims=0)
    yield helper.make_node("Mul", ["sum", "z"], ["share"])
    yield helper.make_node("Add", ["l", "share"], ["y"])


def hostile_operator(draw: Random) -> Case:
    """An operator with one or two hostile attributes or input values."""
    name = draw.choice(list(examples()))
    listed = examples()[name]
    example = draw.choice([one for one in listed if one.runs] or listed)
    node = onnx.NodeProto.FromString(example.node)
    tensors = _tensors(example)
    done = [
        _change_input(tensors, draw) if draw.random() < 0.25 and tensors else _change(node, draw)
        for _ in range(draw.choice((0, 1, 1, 1, 1, 1, 2)))
    ]
    opset = example.opset if draw.random() < 0.85 else draw.choice((7, 9, 11, 13, 15, 18, 21))
    proto = model_of(node, tensors, opset, draw)
    what = f"{name} {', '.join(done)}, opset {opset}, of {example.name}"
    return model_case(what, bytes(proto.SerializeToString()), draw, commands=0.1)


def _change(node: onnx.NodeProto, draw: Random) -> str:
    schema = defs.get_schema(node.op_type, domain=node.domain)
    known = {name: int(attribute.type.value) for name, attribute in schema.attributes.items()}
    if not known or draw.random() < 0.05:
        known["nonsense"] = onnx.AttributeProto.INT
    name = draw.choice(list(known))
    present = [attribute for attribute in node.attribute if attribute.name == name]
    for attribute in present:
        node.attribute.remove(attribute)
    if present and draw.random() < 0.1:
        return f"without {name}"
    attribute = _nudge_input(present[0], draw) if present and draw.random() < 0.3 else None
    node.attribute.append(attribute or hostile_attribute(name, known[name], draw))
    text = " ".join(str(node.attribute[-1]).split())
    return f"{name} = {text[:100]}"


def _nudge_input(attribute: onnx.AttributeProto, draw: Random) -> onnx.AttributeProto | None:
    """The attribute with one entry of its list changed; None if it is not a list."""
    changed = onnx.AttributeProto()
    changed.CopyFrom(attribute)
    if changed.ints:
        changed.ints[draw.randrange(len(changed.ints))] = values.integer(draw)
        return changed
    if changed.floats:
        changed.floats[draw.randrange(len(changed.floats))] = values.number(draw)
        return changed
    return None


def _change_input(tensors: dict[str, TensorProto], draw: Random) -> str:
    name = draw.choice(list(tensors))
    tensor = tensors[name]
    sized = min(tensor.dims, default=0) >= 0 and math.prod(tensor.dims) < MAX_INPUT_BYTES
    if (
        not sized
        or draw.random() < 0.3
        or tensor.data_type
        not in (
            TensorProto.INT64,
            TensorProto.INT32,
            *FLOATS,
        )
    ):
        tensor.CopyFrom(hostile_tensor(name, draw))
        return f"{name} another constant"
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        return f"{name} is empty"
    flat = array.reshape(-1)
    place = draw.randrange(flat.size)
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        flat[place] = min(max(values.integer(draw), int(limits.min)), int(limits.max))
    else:
        with np.errstate(all="ignore"):
            flat[place] = np.asarray(values.number(draw)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return f"{name}[{place}] = {flat[place]}"

"""The outputs of blocks: their last sum before the next attention."""

import onnx
import pytest

from onnxcam.model.load import load
from onnxcam.spatial.block_outputs import block_outputs

ATTEND = """q{b} = MatMul({x}, w) kt{b} = Transpose<perm = [0, 2, 1]>({x}) p{b} = MatMul(q{b}, kt{b})
    soft{b} = Softmax<axis = -1>(p{b}) mixed{b} = MatMul(soft{b}, {x})"""
BLOCKS = {
    "before": ATTEND + " a{b} = Add(x{b}, mixed{b}) m{b} = Tanh(a{b}) out{b} = Add(a{b}, m{b})",
    "after": ATTEND
    + """ a{b} = Add(x{b}, mixed{b}) n{b} = LpNormalization(a{b}) m{b} = Tanh(n{b})
    out{b} = Add(n{b}, m{b}) next{b} = LpNormalization(out{b})""",
    "parallel": ATTEND + " m{b} = Tanh(x{b}) a{b} = Add(x{b}, mixed{b}) out{b} = Add(a{b}, m{b})",
    "three terms": ATTEND + " m{b} = Tanh(x{b}) out{b} = Sum(x{b}, mixed{b}, m{b})",
    "bias only": ATTEND + " out{b} = Add(mixed{b}, w)",
}
HEADS = {
    "class token": "i = Constant<value_int = 0>() y = Gather<axis = 1>(x2, i)",
    "sum of two tokens": """i = Constant<value_int = 0>() j = Constant<value_int = 1>()
        first = Gather<axis = 1>(x2, i) second = Gather<axis = 1>(x2, j) y = Add(first, second)""",
    "skip to the head": """summed = Add(x1, x2) y = ReduceMean<axes = [1], keepdims = 0>(summed)""",
}


def outputs(kind: str, head: str = "class token") -> list[str]:
    """Those of two blocks of this kind."""
    nodes, source = [], "x0"
    for block in (0, 1):
        nodes.append(BLOCKS[kind].format(x=source, b=block))
        result = f"next{block}" if kind == "after" else f"out{block}"
        nodes.append(f"x{block + 1} = Identity({result})")
        source = f"x{block + 1}"
    text = f"""<ir_version: 9, opset_import: ["": 17]>
        net (float[N, 3, 4, 4] image) => (float[N, 4] y)
        <float[4, 4] w = {{1, 2, 3, 4, 2, 1, 0, 5, 1, 1, 2, 2, 3, 0, 1, 2}}> {{
        to = Constant<value_ints = [0, 12, 4]>() x0 = Reshape(image, to)
        {" ".join(nodes)} {HEADS[head]} }}"""
    model = load(bytes(onnx.parser.parse_model(text).SerializeToString()))
    return block_outputs(model.graph, ["soft0", "soft1"], "y")


@pytest.mark.parametrize("head", ["class token", "sum of two tokens"])
@pytest.mark.parametrize("kind", ["before", "after", "parallel", "three terms"])
def test_output_is_last_residual_sum_of_block(kind: str, head: str) -> None:
    assert outputs(kind, head) == ["out0", "out1"]


def test_block_without_residual_connection_has_no_output() -> None:
    assert outputs("bias only") == ["", ""]


def test_sum_with_an_earlier_block_belongs_to_the_last_one() -> None:
    """What passes by the second block is the same for every block's score."""
    assert outputs("before", "skip to the head") == ["out0", "summed"]

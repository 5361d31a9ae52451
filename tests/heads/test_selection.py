"""Outputs that a model selects by their scores: those of all positions are explained, with their boxes."""

import pytest

from onnxcam.errors import ModelError
from onnxcam.heads.boxes.candidates import box_candidates
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.score import find_heads
from onnxcam.heads.selection import scores_before_selection
from onnxcam.model.load import load
from onnxcam.model.model import Model
from tests.heads.support.nets import build

# 64 positions with boxes (N, 64, 4) and the scores of six classes (N, 64, 6) before and after a Sigmoid
POSITIONS = """r = Conv(features, v) flat_r = Reshape(r, flat) logits = Transpose<perm = [0, 2, 1]>(flat_r)
    scores = Sigmoid(logits) g = Conv(features, box) flat_g = Reshape(g, flat)
    raw_boxes = Transpose<perm = [0, 2, 1]>(flat_g) e = Exp(raw_boxes) boxes = Add(e, raw_boxes)
    ten = Constant<value_ints = [10]>() last = Constant<value_ints = [-1]>()
    six = Constant<value_int = 6>() four = Constant<value_ints = [1, 1, 4]>()"""
BEST_OF_ALL = """all_scores = Flatten<axis = 1>(scores) best, index = TopK<axis = 1>(all_scores, ten)
    rank = Div(index, six) class = Mod(index, six) column = Unsqueeze(rank, last) repeated = Tile(column, four)
    near = GatherElements<axis = 1>(boxes, repeated)"""
BEST_ROWS = """top = ReduceMax<axes = [2], keepdims = 0>(scores) best, rank = TopK<axis = 1>(top, ten)
    kinds = ArgMax<axis = 2, keepdims = 0>(scores) class = GatherElements<axis = 1>(kinds, rank)
    column = Unsqueeze(rank, last) repeated = Tile(column, four)
    near = GatherElements<axis = 1>(boxes, repeated)"""
JOINED = (
    """score = Unsqueeze(best, last) kind = Cast<to = 1>(class) number = Unsqueeze(kind, last)"""
)
SUPPRESSED = """turned = Transpose<perm = [0, 2, 1]>(scores) many = Constant<value_int = 10>()
    half = Constant<value_float = 0.5>() picked = NonMaxSuppression(boxes, turned, many, half, half)
    b = Constant<value_ints = [0]>() c = Constant<value_ints = [1]>() p = Constant<value_ints = [2]>()
    image = Gather<axis = 1>(picked, b) kind = Gather<axis = 1>(picked, c)
    position = Gather<axis = 1>(picked, p)
    spot = Concat<axis = 1>(image, position) near = GatherND(boxes, spot)
    triple = Concat<axis = 1>(image, position, kind)
    best = GatherND(scores, triple) score = Unsqueeze(best, last) number = Cast<to = 1>(kind)"""
DETECTORS = {  # outputs and body
    "scores, boxes and classes by TopK": (
        "float[N, 10] s, float[N, 10, 4] near, int64[N, 10] class",
        f"{BEST_OF_ALL} s = Identity(best)",
    ),
    "class first": (
        "int64[N, 10] class, float[N, 10, 4] near, float[N, 10] s",
        f"{BEST_OF_ALL} s = Identity(best)",
    ),
    "one output by TopK": (
        "float[N, 10, 6] y",
        f"{BEST_OF_ALL} {JOINED} y = Concat<axis = 2>(near, score, number)",
    ),
    "class before score": (
        "float[N, 10, 6] y",
        f"{BEST_OF_ALL} {JOINED} y = Concat<axis = -1>(number, score, near)",
    ),
    "best class of each position": (
        "float[N, 10, 6] y",
        f"{BEST_ROWS} {JOINED} y = Concat<axis = 2>(near, score, number)",
    ),
    "rows of one tensor": (
        "float[N, 10, 6] y",
        """top = ReduceMax<axes = [2], keepdims = 1>(scores) kinds = ArgMax<axis = 2>(scores)
        number = Cast<to = 1>(kinds) joined = Concat<axis = 2>(boxes, top, number)
        low = ReduceMax<axes = [2], keepdims = 0>(scores) best, rank = TopK<axis = 1>(low, ten)
        column = Unsqueeze(rank, last) sixfold = Constant<value_ints = [1, 1, 6]>()
        repeated = Tile(column, sixfold)
        y = GatherElements<axis = 1>(joined, repeated)""",
    ),
    "selected, then activated": (
        "float[N, 10] s, float[N, 10, 4] near",
        f"{BEST_OF_ALL.replace('Flatten<axis = 1>(scores)', 'Flatten<axis = 1>(logits)')} s = Sigmoid(best)",
    ),
    "masked after the selection": (
        "float[N, 10] s, float[N, 10, 4] near",
        f"""{BEST_OF_ALL} limit = Constant<value_float = 0.5>() above = Greater(best, limit)
        mask = Cast<to = 1>(above) s = Mul(best, mask)""",
    ),
    "scaled boxes, replaced scores": (
        "float[N, 10] s, float[N, 10, 4] y",
        f"""{BEST_OF_ALL} limit = Constant<value_float = 0.5>() above = Greater(best, limit)
        zero = Constant<value_float = 0.0>() s = Where(above, best, zero)
        size = Constant<value_floats = [640.0, 480.0, 640.0, 480.0]>() y = Mul(near, size)""",
    ),
    "non-maximum suppression": (
        "float[K, 1] score, float[K, 4] near",
        SUPPRESSED,
    ),
    "non-maximum suppression in one output": (
        "float[K, 6] y",
        f"{SUPPRESSED} y = Concat<axis = 1>(near, score, number)",
    ),
}


def make_detector(outputs: str, body: str, batch: str = "N") -> Model:
    replaced = outputs.replace("N,", f"{batch},")
    return load(build(replaced, f"{POSITIONS} {body}", batch=batch))


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("name", DETECTORS)
def test_scores_of_all_positions_are_explained(name: str, batch: str) -> None:
    model = make_detector(*DETECTORS[name], batch=batch)
    head = choose_output(find_heads(model)).head
    assert (head.logits.name, head.class_count) == ("logits", 6)
    columns = [c for candidate in box_candidates(model, [head]) for c in candidate.columns]
    assert [c.tensor for c in columns] == ["boxes"]


@pytest.mark.parametrize("name", DETECTORS)
def test_notice_says_what_the_output_holds(name: str) -> None:
    model, score = ensure_class_scores(make_detector(*DETECTORS[name]))
    assert score.classes == 6
    tensor = "logits" if "then activated" in name else "scores"
    notices = [notice for notice in model.notices if "holds what the model selected" in notice]
    assert any(f"so {tensor}, which it is made from" in notice for notice in notices)


CLASSIFIER = "p = GlobalAveragePool(features) f = Flatten(p) logits = MatMul(f, m)"


def test_ranks_of_a_classifier_are_not_its_classes() -> None:
    body = f"""{CLASSIFIER} q = Softmax<axis = 1>(logits) two = Constant<value_ints = [2]>()
        best, number = TopK<axis = 1>(q, two)"""
    model, score = ensure_class_scores(load(build("float[N, 2] best, int64[N, 2] number", body)))
    assert (score.logits, score.output_activation, score.classes) == ("logits", "Softmax", 6)
    assert "best holds what the model selected" in " ".join(model.notices)


def test_token_at_a_computed_position_is_no_selection() -> None:
    """As the last token of a text: no TopK or suppression of scores computes the index."""
    body = """r = Conv(features, v) f = Reshape(r, flat) tokens = Transpose<perm = [0, 2, 1]>(f)
        first_of = ReduceMax<axes = [2], keepdims = 0>(tokens) index = ArgMax<axis = 1>(first_of)
        columns_six = Constant<value_ints = [1, 1, 6]>() last = Constant<value_ints = [-1]>()
        i = Unsqueeze(index, last) j = Tile(i, columns_six) y = GatherElements<axis = 1>(tokens, j)"""
    model = load(build("float[N, 1, 6] y", body))
    assert scores_before_selection(model.graph.outputs[0]) is None


def test_queries_selected_inside_the_model_are_left_as_they_are() -> None:
    """The scores of the selected queries are computed after the selection."""
    body = """r = Conv(features, v) f = Reshape(r, flat) tokens = Transpose<perm = [0, 2, 1]>(f)
        top = ReduceMax<axes = [2], keepdims = 0>(tokens) ten = Constant<value_ints = [10]>()
        best, index = TopK<axis = 1>(top, ten) last = Constant<value_ints = [-1]>()
        columns_six = Constant<value_ints = [1, 1, 6]>() i = Unsqueeze(index, last) j = Tile(i, columns_six)
        queries_ = GatherElements<axis = 1>(tokens, j) y = MatMul(queries_, square)"""
    model = load(build("float[N, 10, 6] y", body))
    assert scores_before_selection(model.graph.outputs[0]) is None


def test_class_index_without_scores_is_refused() -> None:
    body = """r = Conv(features, box) f = Reshape(r, flat) rows_ = Transpose<perm = [0, 2, 1]>(f)
        number = ArgMax<axis = 2>(rows_) class = Cast<to = 1>(number) y = Concat<axis = 2>(rows_, class)"""
    with pytest.raises(ModelError, match="final detections"):
        ensure_class_scores(load(build("float[N, 64, 5] y", body)))

"""What outputs are taken for is described, and what was assumed is a notice with the words to change it."""

from pathlib import Path
from typing import Any

import pytest

from onnxcam.errors import OnnxcamError
from onnxcam.heads.description import describe_outputs
from onnxcam.heads.positions import with_dense_scores
from onnxcam.model.load import load
from scripts.fixtures.files import DATA, load_fixture
from tests.heads.support.nets import POOL, build

CASES = Path(__file__).parents[3] / "shared" / "cases"
FIXTURES = sorted(DATA.glob("*.onnx"))
ROWS = "c = Conv(features, v) r = Reshape(c, flat)"
SOFTMAX = "Softmax, which is assumed"
RAW, PROBABILITIES = "none: they are raw scores", "none: they are probabilities"
NOTHING: dict[str, Any] = {
    "position_counts": [],
    "class_axis": 1,
    "batch_axis": 0,
    "columns": None,
    "objectness": None,
    "activation": RAW,
    "nothing": None,
    "assumed": False,
}
NETS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    # outputs, body, what differs from NOTHING, and what the notices say
    "classifier": (
        "float[N, 6] y",
        f"{POOL} z = MatMul(f, m) y = Softmax(z)",
        {"task": "classification", "classes": 6, "activation": "Softmax"},
        (),
    ),
    "one logit": (
        "float[N, 1] y",
        f"{POOL} y = MatMul(f, n)",
        {"task": "classification", "classes": 1, "class_axis": None},
        (),
    ),
    "segmenter, channels last": (
        "float[N, 8, 8, 6] y",
        "c = Conv(features, v) y = Transpose<perm = [0, 2, 3, 1]>(c)",
        {
            "task": "segmentation",
            "classes": 6,
            "class_axis": 3,
            "position_counts": [[8, 8]],
            "activation": SOFTMAX,
        },
        ("y scores each pixel", "--target"),
    ),
    "one map of probabilities": (
        "float[N, 1, 8, 8] y",
        "c = Conv(features, u) y = Sigmoid(c)",
        {
            "task": "segmentation",
            "classes": 1,
            "class_axis": None,
            "position_counts": [[8, 8]],
            "activation": "Sigmoid",
            "assumed": True,
        },
        ("the task is taken to be segmentation", "--task"),
    ),
    "depth": (
        "float[N, 1, 8, 8] y",
        "y = Conv(features, u)",
        {
            "task": "image",
            "classes": 1,
            "class_axis": None,
            "position_counts": [[8, 8]],
            "assumed": True,
        },
        ("the task is taken to be image", "--task"),
    ),
    "boxes beside scores": (
        "float[N, 64, 6] y, float[N, 64, 4] boxes",
        f"""{ROWS} z = Transpose<perm = [0, 2, 1]>(r) y = Softmax<axis = 2>(z)
            g = Reshape(features, flat) boxes = Transpose<perm = [0, 2, 1]>(g)""",
        {
            "task": "detection",
            "classes": 6,
            "class_axis": 2,
            "position_counts": [[64]],
            "activation": "Softmax",
            "nothing": {"class": 0, "name": "background"},
        },
        ("of 2 outputs, y", "--output NAME", "class 0 of y is taken as the background", "--labels"),
    ),
    "squeezed batch": (
        "float[64, 6] y",
        f"{ROWS} t = Transpose<perm = [0, 2, 1]>(r) y = Squeeze(t, first)",
        {
            "task": "segmentation",
            "classes": 6,
            "batch_axis": None,
            "position_counts": [[64]],
            "activation": SOFTMAX,
        },
        ("y [64, 6] has no batch axis, so it is taken as the output of one image",),
    ),
    "steps before the batch": (
        "float[8, N, 90] y",
        """s = ReduceMean<axes = [2], keepdims = 0>(features) t = Transpose<perm = [2, 0, 1]>(s)
           o, h = GRU<hidden_size = 4>(t, gates, recurrence) d = Squeeze(o, axis)
           y = MatMul(d, wide)""",
        {
            "task": "sequence",
            "classes": 90,
            "class_axis": 2,
            "batch_axis": 1,
            "position_counts": [[8]],
            "nothing": {"class": 0, "name": "blank"},
            "activation": SOFTMAX,
        },
        ("axis 1 of y", "is taken as the batch", "class 0 of y is taken as the blank", "--labels"),
    ),
    "centers": (
        "float[N, 6, 4, 4] y, float[N, 2, 4, 4] size, float[N, 2, 4, 4] offset",
        """half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features) c = Conv(half, v)
            y = Sigmoid(c) size = Conv(half, pair) twice = Tanh(half) offset = Conv(twice, pair)""",
        {"task": "detection", "classes": 6, "position_counts": [[4, 4]], "activation": "Sigmoid"},
        ("y scores the cells of a grid: the best box of a class is explained", "--target"),
    ),
    "raw scores beside boxes": (
        "float[N, 64, 6] y, float[N, 64, 4] boxes",
        f"""{ROWS} y = Transpose<perm = [0, 2, 1]>(r) g = Reshape(features, flat)
            boxes = Transpose<perm = [0, 2, 1]>(g)""",
        {
            "task": "detection",
            "classes": 6,
            "class_axis": 2,
            "position_counts": [[64]],
            "activation": "Sigmoid, which is assumed",
        },
        ("y ends in raw scores, and Sigmoid is assumed", "--min-score"),
    ),
    "unknown axes": (
        "float[N, 4, 2] y",
        "r = Reshape(features, flat) t, i = TopK<axis = 2>(r, second) k = Abs(t) y = Sigmoid(k)",
        {
            "task": "detection",
            "classes": 2,
            "class_axis": 2,
            "position_counts": [[4]],
            "activation": "Sigmoid",
            "assumed": True,
        },
        ("the class axis of y", "--output NAME", "the task is taken to be detection", "--task"),
    ),
    "embedding by name": (
        "float[N, 90] embedding",
        f"{POOL} embedding = MatMul(f, wide)",
        {"task": "embedding", "classes": 90, "assumed": True},
        ("embedding is taken as an embedding", "--task"),
    ),
    "mixed probabilities": (
        "float[N, 6] y",
        f"""{POOL} a1 = MatMul(f, m) b = Neg(a1) q = Softmax(a1) s = Softmax(b) t = Add(q, s)
            two = Constant<value_float = 2.0>() y = Div(t, two)""",
        {"task": "classification", "classes": 6, "activation": PROBABILITIES},
        ("y is a probability", "--output NAME"),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_description_and_notices_name_what_was_assumed(name: str) -> None:
    outputs, body, expected, words = NETS[name]
    model = load(build(outputs, body, "1" if "squeezed" in name else "N"))
    description = describe_outputs(model)
    assert {key: description[key] for key in {**NOTHING, **expected}} == {**NOTHING, **expected}
    assert description["reason"]
    assert description["target"]
    scored = with_dense_scores(model)[0]
    notices = " ".join(scored.notices)
    assert [word for word in words if word not in notices] == []
    assert bool(scored.notices) is bool(words)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixtures_are_classifiers_of_which_nothing_is_assumed(path: Path) -> None:
    model, classes = load(load_fixture(path)), 10 if path.name.startswith("timm_") else 5
    description = describe_outputs(model)
    assert (description["task"], description["assumed"]) == ("classification", False)
    assert (description["classes"], description["position_counts"]) == (classes, [])
    assert (description["class_axis"], description["batch_axis"]) == (1, 0)
    assert next(iter(description["tensors"].values()))[-1] == classes
    assert with_dense_scores(model)[0].notices == model.notices


OF_CASES = {  # task, classes, batch axis, class axis, activation
    "batch_minus1": ("classification", 5, 0, 1, RAW),
    "boxes_then_prob": ("classification", 2, 0, 1, "Softmax"),
    "hw_minus1": ("classification", 5, 0, 1, RAW),
    "one_number_a_box": ("detection", 1, 0, None, "Sigmoid"),
    "sign": ("classification", 5, 0, 1, RAW),
    "squeezed_batch": ("detection", 5, None, 1, "Sigmoid, which is assumed"),
    "ultralytics_like": ("detection", 2, 0, 1, "Sigmoid"),
    "unsorted": ("classification", 5, 0, 1, RAW),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the small cases are not beside the project")
@pytest.mark.parametrize("name", OF_CASES)
def test_cases_are_described(name: str) -> None:
    description = describe_outputs(load(CASES / f"{name}.onnx"))
    keys = ("task", "classes", "batch_axis", "class_axis", "activation")
    assert tuple(description[key] for key in keys) == OF_CASES[name]


@pytest.mark.skipif(not CASES.is_dir(), reason="the small cases are not beside the project")
def test_cases_without_description_are_refused() -> None:
    others = {path.stem for path in CASES.glob("*.onnx")} - set(OF_CASES)
    for name in others:
        with pytest.raises(OnnxcamError):
            describe_outputs(load(CASES / f"{name}.onnx"))

"""The task of a model, from its metadata or from its graph."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_tensor_value_info

from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.score import find_heads
from onnxcam.heads.tasks.choice import task_of
from onnxcam.heads.tasks.metadata import task_in_metadata
from onnxcam.heads.tasks.task import TASKS, Task
from onnxcam.image.labels import metadata_labels
from onnxcam.model.load import load
from tests.heads.support.nets import POOL, build

LOGITS = f"{POOL} y = MatMul(f, m)"
ROWS = "c = Conv(features, v) r = Reshape(c, flat)"
STEPS = """s = ReduceMean<axes = [2], keepdims = 0>(features) t = Transpose<perm = [2, 0, 1]>(s)
    o, h = GRU<hidden_size = 4>(t, gates, recurrence) d = Squeeze(o, axis) y = MatMul(d, wide)"""
NETS = {  # outputs, body, task, whether it is assumed
    "scores": ("float[N, 6] y", LOGITS, "classification", False),
    "unit length": (
        "float[N, 90] z",
        f"{POOL} e = MatMul(f, wide) size = ReduceL2<axes = [1]>(e) z = Div(e, size)",
        "embedding",
        False,
    ),
    "named as an embedding": (
        "float[N, 90] embedding",
        f"{POOL} embedding = MatMul(f, wide)",
        "embedding",
        True,
    ),
    "named as landmarks": (
        "float[N, 90] landmarks",
        f"{POOL} landmarks = MatMul(f, wide)",
        "regression",
        True,
    ),
    "an expectation": (
        "float[N] y",
        f"""{POOL} z = MatMul(f, wide) q = Softmax<axis = -1>(z) age = MatMul(q, ages)
            y = Squeeze(age, axis)""",
        "regression",
        False,
    ),
    "features of tokens": (
        "float[N, 64, 4] last_hidden_state",
        "r = Reshape(features, flat) last_hidden_state = Transpose<perm = [0, 2, 1]>(r)",
        "embedding",
        True,
    ),
    "pixels": ("float[N, 6, 8, 8] y", "y = Conv(features, v)", "segmentation", False),
    "pixels, channels last": (
        "float[N, 8, 8, 6] y",
        "c = Conv(features, v) y = Transpose<perm = [0, 2, 3, 1]>(c)",
        "segmentation",
        False,
    ),
    "pixels in one axis": (
        "float[N, 64, 6] y",
        f"{ROWS} y = Transpose<perm = [0, 2, 1]>(r)",
        "segmentation",
        False,
    ),
    "one map": ("float[N, 1, 8, 8] y", "y = Conv(features, u)", "image", True),
    "one map of probabilities": (
        "float[N, 1, 8, 8] y",
        "c = Conv(features, u) y = Sigmoid(c)",
        "segmentation",
        True,
    ),
    "a coarser grid in one axis": (
        "float[N, 16, 6] y",
        """half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features) c = Conv(half, v)
           r = Reshape(c, flat) y = Transpose<perm = [0, 2, 1]>(r)""",
        "detection",
        True,
    ),
    "boxes beside": (
        "float[N, 64, 6] y, float[N, 64, 4] z",
        f"""{ROWS} y = Transpose<perm = [0, 2, 1]>(r) g = Reshape(features, flat)
           z = Transpose<perm = [0, 2, 1]>(g)""",
        "detection",
        False,
    ),
    "steps of a recurrence": ("float[8, N, 90] y", STEPS, "sequence", False),
    "steps along the width": (
        "float[N, 90, 8] y",
        "c = Conv(features, big) y = ReduceMean<axes = [2], keepdims = 0>(c)",
        "sequence",
        False,
    ),
}


def task_of_net(outputs: str, body: str, **metadata: str) -> Task:
    model = load(build(outputs, body, **metadata))
    names = metadata_labels(model.metadata)
    labels = len(names) if names else None
    choice = choose_output(find_heads(model, None, labels), labels)
    return task_of(model, [choice.head])


@pytest.mark.parametrize("name", NETS)
def test_task_of_graph_follows_axes(name: str) -> None:
    outputs, body, task, is_assumed = NETS[name]
    result = task_of_net(outputs, body)
    assert (result.name, result.is_assumed) == (task, is_assumed)
    assert result.reason


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        ({"task": "detect"}, "detection"),
        ({"task": "classify"}, "classification"),
        ({"task": "image-classification"}, "classification"),
        ({"pipeline_tag": "object-detection"}, "detection"),
        ({"architectures": '["SegformerForSemanticSegmentation"]'}, "segmentation"),
        ({"architectures": "ViTForImageClassification"}, "classification"),
        ({"architectures": "DPTForDepthEstimation"}, "image"),
        ({"task": "sequence"}, "sequence"),
        ({"task": "something else"}, None),
        ({"producer": "detect"}, None),
    ],
)
def test_task_in_metadata_is_read(metadata: dict[str, str], task: str | None) -> None:
    result = task_in_metadata(metadata)
    assert (result and result.name) == task


def test_metadata_decides_before_graph() -> None:
    result = task_of_net("float[N, 6, 8, 8] y", "y = Conv(features, v)", task="detect")
    assert result == Task("detection", "the metadata says task = detect")


def task_with_ids(keys: str, steps: int, words: int) -> Task:
    """The task of a net with `steps` queries that attend to the image, and with ids (N, words)."""
    body = f"""{keys} r = Reshape(features, flat) s = MatMul(k, r)
        t = Transpose<perm = [0, 2, 1]>(r) o = MatMul(s, t) y = MatMul(o, m)"""
    proto = build(f"float[N, {steps}, 6] y", body)
    proto.graph.input.append(make_tensor_value_info("ids", TensorProto.INT64, ["N", words]))
    model = load(proto, inputs={"ids": np.zeros((1, words), np.int64)})
    return task_of(model, find_heads(model))


@pytest.mark.parametrize("words", [3, 10, 64])
def test_one_step_for_each_token_is_a_sequence(words: int) -> None:
    task = task_with_ids("k = Gather(queries, ids)", words, words)
    assert task.name == "sequence"
    assert f"{words} numbers of ids" in task.reason


def test_other_number_of_tokens_is_no_sequence() -> None:
    keys = "i = Cast<to = 1>(ids) j = ReduceSum<keepdims = 0>(i) k = Add(queries, j)"
    assert task_with_ids(keys, 10, 3).name == "detection"


def test_nets_cover_tasks() -> None:
    assert {task for _, _, task, _ in NETS.values()} == set(TASKS)

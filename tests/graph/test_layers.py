"""Which tensors are layers, and which of them the automatic choice is made among."""

import pytest

from onnxcam.errors import UnknownNameError
from onnxcam.graph.layers import Layer, candidates, find_layer, spatial_layers
from onnxcam.graph.model import Model
from tests.graph.test_layout import model

KERNEL = {"w": (3, 3, 1, 1)}


def classifier(body: str) -> Model:
    """x -> body -> last -> pooled scores."""
    return model(
        f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{
            {body}
            pooled = GlobalAveragePool(last)
            scores = Flatten(pooled) }}""",
        **KERNEL,
    )


def layers(it: Model) -> list[Layer]:
    return spatial_layers(it, "x", "scores")


def automatic(it: Model) -> list[str]:
    return [each.name for each in candidates(it, layers(it))]


def test_layers_lie_between_the_picture_and_the_score() -> None:
    found = layers(
        classifier(
            "c = Conv(x, w) r = Relu(c) side = Sigmoid(c) unused = Tanh(side) last = Conv(r, w)"
        )
    )
    assert [each.name for each in found] == ["c", "r", "last"]
    assert found[0] == Layer("c", "Conv", ("N", 3, 8, 8), 1, whole=True)
    assert (found[0].layout, found[0].grid, found[0].channels) == ("NCHW", (8, 8), 3)


def test_channels_last() -> None:
    (_, turned, _) = layers(
        classifier(
            "c = Conv(x, w) t = Transpose<perm = [0, 2, 3, 1]>(c) "
            "last = Transpose<perm = [0, 3, 1, 2]>(t)"
        )
    )
    assert (turned.name, turned.layout, turned.grid, turned.channels) == ("t", "NHWC", (8, 8), 3)


def test_a_branch_is_not_whole() -> None:
    found = layers(classifier("c = Conv(x, w) a = Conv(c, w) b = Sigmoid(c) last = Add(a, b)"))
    assert {each.name: each.whole for each in found} == {
        "c": True, "a": False, "b": False, "last": True,
    }  # fmt: skip


def test_gates_of_one_cell_are_no_layers() -> None:
    """Squeeze and excitation: (N, C, 1, 1)."""
    found = layers(
        classifier(
            "c = Conv(x, w) g = GlobalAveragePool(c) s = Sigmoid(g) m = Mul(c, s) last = Relu(m)"
        )
    )
    assert [each.name for each in found] == ["c", "m", "last"]


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("c = Conv(x, w) last = Relu(c)", "last"),
        ("c = Conv(x, w) last = Conv(c, w)", "last"),
        ("c = Conv(x, w) s = Sigmoid(c) last = Mul(c, s)", "last"),
        ("c = Conv(x, w) s = HardSigmoid(c) last = Mul(c, s)", "last"),
        ("a = Conv(x, w) b = Relu(a) c = Conv(a, w) last = Add(b, c)", "last"),
    ],
)
def test_the_last_layer_comes_first(body: str, first: str) -> None:
    assert automatic(classifier(body))[0] == first


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) r = Relu(c) last = Conv(r, w)",
        "c = Conv(x, w) s = Sigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) s = HardSigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) p = LeakyRelu(c) q = Cast<to = 1>(p) last = Conv(q, w)",
    ],
)
def test_what_an_activation_finishes_is_no_candidate(body: str) -> None:
    assert "c" not in automatic(classifier(body))
    assert len(automatic(classifier(body))) >= 2


def test_no_candidate_is_an_empty_list() -> None:
    """Two branches from the picture to the score."""
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Sigmoid(x)
            p = GlobalAveragePool(a) q = GlobalAveragePool(b)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert [each.name for each in layers(it)] == ["a", "b"]
    assert candidates(it, layers(it)) == []


def test_integers_come_before_the_layers() -> None:
    """No derivative flows through bytes, but what follows them are layers."""
    it = model(
        """(uint8[N, 8, 8, 3] x) => (float[N, 3] scores) {
            t = Transpose<perm = [0, 3, 1, 2]>(x)
            f = Cast<to = 1>(t) c = Conv(f, w)
            p = GlobalAveragePool(c) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert [(each.name, each.whole) for each in layers(it)][-2:] == [("f", True), ("c", True)]


def test_the_size_of_the_picture_is_no_way_to_the_score() -> None:
    """A Reshape by the picture's own Shape does not make a branch."""
    it = model(
        """(float[N, 3, H, W] x) => (float[N, 3] scores) {
            c = Conv(x, w) s = Shape(x) r = Reshape(c, s) last = Relu(r)
            p = GlobalAveragePool(last) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert all(each.whole for each in layers(it))


def test_a_layer_is_found_by_name() -> None:
    found = layers(classifier("features = Conv(x, w) last = Relu(features)"))
    assert find_layer(found, "features").name == "features"
    with pytest.raises(UnknownNameError, match="no layer 'featuers'; did you mean features"):
        find_layer(found, "featuers")
    with pytest.raises(UnknownNameError, match="layers --all"):
        find_layer(found, "pooled")

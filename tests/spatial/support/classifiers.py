"""Small classifiers, and the names of their layers."""

from onnxcam.model.model import Model
from onnxcam.spatial.layers import candidates, spatial_layers
from onnxcam.specs import Layer
from tests.model.support.texts import load_text

KERNEL = {"w": (3, 3, 1, 1)}


def classifier(body: str, opset: int = 17) -> Model:
    """x -> body -> last -> pooled scores."""
    return load_text(
        f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{
            {body}
            pooled = GlobalAveragePool(last)
            scores = Flatten(pooled) }}""",
        opset,
        **KERNEL,
    )


def layers(model: Model) -> list[Layer]:
    return spatial_layers(model, "x", "scores")


def candidate_names(model: Model) -> list[str]:
    return [layer.name for layer in candidates(model, layers(model))]


def pyramid(size: str, heads: str = "fine, middle, coarse") -> Model:
    """A detector: features of three sizes, each with a head, and the best score of all boxes."""
    head = """{0} = Relu({1}) h{1} = Conv({0}, w) f{1} = Reshape(h{1}, k)"""
    names = zip(("fine", "middle", "coarse"), ("c3", "c4", "c5"), strict=True)
    outputs = {"fine": "fc3", "middle": "fc4", "coarse": "fc5"}
    read = ", ".join(outputs[name.strip()] for name in heads.split(","))
    return load_text(
        f"""(float[N, 3, {size}, {size}] x) => (float[N, 3] scores) {{
            k = Constant<value_ints = [0, 3, -1]>() stem = Conv<strides = [2, 2]>(x, w) c3 = Relu(stem)
            c4 = Conv<strides = [2, 2]>(c3, w) c5 = Conv<strides = [2, 2]>(c4, w)
            {" ".join(head.format(*pair) for pair in names)}
            boxes = Concat<axis = 2>({read}) scores = ReduceMax<axes = [2], keepdims = 0>(boxes) }}""",
        **KERNEL,
    )

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

"""Whether a score is, or becomes, a probability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxcam.errors import ModelError
from onnxcam.methods.quantities import Quantity
from onnxcam.model.model import Model
from onnxcam.rewrite.sources import PROBABILITIES
from onnxcam.specs import CLASS_SCORES, Score


def probability_notices(score: Score, quantities: Sequence[Quantity]) -> Iterator[tuple[str, str]]:
    """What is taken as a probability, if a quantity needs one and the model does not say."""
    is_asked = any("probability" in quantity.sources for quantity in quantities)
    if not is_asked or score.probability or score.output_activation in PROBABILITIES:
        return
    if score.output == CLASS_SCORES:
        notice = (
            "the mean or maximum of the class scores over pixels or boxes is used as a probability"
        )
    else:
        name = "Sigmoid" if score.classes == 1 else "Softmax"
        notice = (
            f"{score.output!r} does not end in Softmax or Sigmoid, so its {name} is used as the probability; "
            "name another tensor with --output if that is wrong"
        )
    yield "probability", notice


def require_probability(model: Model, score: Score) -> None:
    """ModelError for a score that is not, and does not become, a probability."""
    if score.probability or score.output_activation in ("Softmax", "Sigmoid"):
        return
    reason = (
        "its scores are the mean or maximum over pixels or boxes, which are not probabilities"
        if score.output == CLASS_SCORES
        else f"{score.output!r} does not end in Softmax or Sigmoid, so it is not a probability"
    )
    raise ModelError(f"{model.name}: {reason}; explain the logit instead (--score logit)")

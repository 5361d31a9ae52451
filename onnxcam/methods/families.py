"""The families of methods: the groups in which they are listed."""

from __future__ import annotations

from onnxcam.methods.place import IMAGE, LAYER

FAMILIES = {
    "cam": "Class activation maps: which cells of a layer count",
    "gradient": "Gradients at the image: which pixels count",
    "attention": "Attention: which tokens of a transformer the score reads",
    "perturbation": "Perturbation: how the score changes when parts of the image are hidden",
}
"""Names of families, and what their maps show."""


def family_of(at: str, *, needs_gradient: bool) -> str:
    """The family of a method that names none: by its place, and whether it needs a gradient."""
    if at == LAYER:
        return "cam"
    return "perturbation" if at == IMAGE and not needs_gradient else "gradient"


def check_family(name: str, family: str | None) -> None:
    """ValueError for a method of an unknown family."""
    if family is not None and family not in FAMILIES:
        raise ValueError(f"{name}: family={family!r}; expected one of {', '.join(FAMILIES)}")

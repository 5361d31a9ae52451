"""The gradient at the image through rectifiers that only positive gradients pass, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method(
    "guided-backprop",
    source="Springenberg et al. 2014, section 3.4",
    rules="guided",
    at="image",
)
def guided_backprop(gradient: Maps) -> Maps:
    """The gradient at the image, of which only positive values pass rectifiers; the map is its magnitude.

    At a ReLU with the output y, g becomes relu(g) where y > 0, and 0 elsewhere (N, C, H, W). Other rectifiers
    follow the same idea (see the rule table `guided`). It shows what excites the network rather than
    an explanation of one class: it changes little with the target.
    """
    return gradient

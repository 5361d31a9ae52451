"""The gradient at the image through rectifiers that all positive gradients pass, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method(
    "deconvnet",
    source="Zeiler and Fergus 2014, section 2.1",
    rules="deconvnet",
    at="image",
)
def deconvnet(gradient: Maps) -> Maps:
    """The gradient at the image, of which positive values pass all rectifiers; the map is its magnitude.

    At a ReLU, active or not, g becomes relu(g) (N, C, H, W); pools keep the places of their maxima. Other
    rectifiers follow the same idea (see the rule table `deconvnet`). A model of convolutions and ReLUs without
    pools gives the same map for every image. The map is empty if no positive gradient passes a bottleneck, as
    for some classes of SqueezeNet.
    """
    return gradient

"""The gradient at the image, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method("saliency", source="Simonyan et al. 2013, section 3", at="image")
def saliency(gradient: Maps) -> Maps:
    """The gradient of the score at the image; the map is its largest magnitude of all channels.

    dS/dx (N, C, H, W). A pixel counts if a small change of it changes the score, in whichever direction.
    """
    return gradient

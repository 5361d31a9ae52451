"""The options of how maps are drawn over images."""

from __future__ import annotations

from typing import Any

from onnxcam.cli.option_group import options_of
from onnxcam.cli.options import Caption, ColormapName, LongestSide, Opacity, SideBySide


def _drawing(
    colormap: ColormapName = None,
    opacity: Opacity = 0.6,
    longest_side: LongestSide = 1024,
    side_by_side: SideBySide = False,
    caption: Caption = False,
) -> dict[str, Any]:
    """The arguments of `Explanation.save` that the options stand for."""
    return {
        "colormap": colormap,
        "opacity": opacity,
        "longest_side": longest_side,
        "side_by_side": side_by_side,
        "caption": caption,
    }


drawing_options = options_of(_drawing, "drawing")

"""Write models/shapes-explained.onnx: the bundled classifier with its explanation inside.

    python -m scripts.shapes.explained

It takes pixels and a target, and returns the map and its overlay. `onnxcam demo --embed` shows it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxcam.bundled import bundled_model
from onnxcam.digests import digest_bytes
from onnxcam.embedding.write import EmbeddedModel, embed
from scripts.shapes.model_card import MODELS, write_section

NAME = "shapes-explained"
OUTPUTS = ("saliency", "overlay")
PIXELS = "`pixels`, uint8 (batch, height, width, 3), RGB images of any size"
TARGET = "`target`, int64 (batch), the class to explain, -1 for the one with the highest score"
SALIENCY = "`saliency`, float32 (batch, 112, 112), the map"
OVERLAY = "`overlay`, uint8 (batch, 112, 112, 3), the map over the image"
CARD = f"""\
## {NAME}.onnx

`shapes.onnx` with {{method}} at `{{layer}}` inside: it answers, and returns where it looked.

| | |
|---|---|
| Inputs | {PIXELS}; {TARGET} |
| Outputs | `logits`, as of `shapes.onnx`; {SALIENCY}; {OVERLAY} |
| Size | {{size:,}} bytes, {{samples}} noisy images in a run |
| SHA-256 | `{{digest}}` |

Written by `python -m scripts.shapes.explained`."""


def explain_shapes() -> EmbeddedModel:
    """The model, as the bundled file holds it."""
    # without a Loop, which some runtimes do not have
    return embed(bundled_model(), takes_pixels=True, target_input=True, outputs=OUTPUTS, rounds=1)


def main() -> None:
    """Write the file and its section of the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=MODELS, help="folder (default: models)")
    folder: Path = parser.parse_args().out
    embedded = explain_shapes()
    (path,) = embedded.save(folder / f"{NAME}.onnx")
    content, explanation = path.read_bytes(), embedded.explanation
    card = CARD.format(
        method=explanation.method,
        layer=", ".join(explanation.layers),
        size=len(content),
        samples=explanation.samples,
        digest=digest_bytes(content),
    )
    write_section(folder, NAME, card)
    print(f"{path}: {len(content)} bytes")


if __name__ == "__main__":
    main()

"""Where a class is explained, after the `@` of a target: a box, pixels, a step. `PLACES` is the table of what
can be written there, which the modules of this package register.
"""

from onnxcam.registry import import_modules
from onnxcam.targets.where.place import PLACES, DenseView, Place, Selection, place

import_modules(__name__, __path__)

__all__ = ["PLACES", "DenseView", "Place", "Selection", "place"]

"""One module per form of boxes; each registers what it recognizes and decodes. The modules are imported in the
order of their names, and the first form that fits is used, so no two may fit the same numbers.
"""

from onnxcam.heads.boxes.form import FORMS
from onnxcam.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["FORMS"]

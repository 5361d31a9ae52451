"""The old home of Value: use `tracing` and `anp`."""

from typing import Any

import numpy  # noqa: ICN001

from onnxcam.graph.slicing import with_axes as with_axes
from onnxcam.graph.tracing import Value as Value

np: Any = numpy

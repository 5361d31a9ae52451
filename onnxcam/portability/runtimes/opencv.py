"""OpenCV 5 with its new engine; the older one refuses most gradients."""

from __future__ import annotations

import numpy as np

from onnxcam.portability.foreign_runtime import RUNTIMES, Arrays, ForeignRuntime, Task


def run(task: Task) -> tuple[Arrays, str]:
    """The outputs of the file."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(task.model), cv2.dnn.ENGINE_NEW)
    for name, array in task.feeds.items():
        net.setInput(np.ascontiguousarray(array), name)
    results = net.forward(list(task.outputs))
    return dict(zip(task.outputs, map(np.asarray, results), strict=True)), cv2.__version__


RUNTIMES.add("opencv", ForeignRuntime(run, "pip install 'opencv-python-headless>=5'", "cv2"))

"""BatchNormalization in inference: a factor for each channel."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

rules = Rules()


def batch_norm_vjp(
    g: Value,
    y: Value,
    x: Value,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float,
    training_mode: int | None,
    is_test: int | None,
    spatial: int | None,
) -> Value:
    """BatchNormalization-15, y = scale (x - mean) / sqrt(var + epsilon) + b: g scale / sqrt(var + epsilon).

    Since opset 7, with the statistics of training. ModelError where those of the batch are used.
    """
    if training_mode or is_test == 0 or spatial == 0:
        raise ModelError(
            f"the BatchNormalization that writes {y.name!r} uses the statistics of the batch; "
            "export the model in inference mode"
        )
    per_channel = [-1, *[1] * (x.ndim - 2)]
    if scale.constant is not None and var.constant is not None and not isinstance(x.dtype, int):
        deviation = np.sqrt(var.constant.astype(np.float64) + epsilon)
        return g * (scale.constant.astype(np.float64) / deviation).reshape(per_channel)
    factor = scale.astype(x.dtype) / anp.sqrt(var.astype(x.dtype) + epsilon)
    return g * anp.reshape(factor, per_channel)


rules.vjp("BatchNormalization", batch_norm_vjp)

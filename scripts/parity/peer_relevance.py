"""Layer-wise relevance propagation of zennit, as it is, and with what is known to differ mended."""

from __future__ import annotations

import types
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onnxcam.arrays import Floats
from scripts.parity.peer_maps import images, model_of
from scripts.parity.peer_nets import Case, Depthwise, Residual


def zennit_lrp(case: Case, _: dict[str, Any]) -> Floats:
    """EpsilonPlusFlat, with normalizations merged by zennit's canonizer."""
    merge = import_module("zennit.canonizers").SequentialMergeBatchNorm()
    return relevance(model_of(case), case, [merge], [])


def zennit_lrp_mended(case: Case, _: dict[str, Any]) -> Floats:
    """The same with sums as modules, where zennit has a rule for them, and a rule for normalizations that no
    canonizer may merge, because others read the convolution, too, or because there is none.
    """
    model = model_of(case)
    forward = FORWARDS.get(type(model))
    if forward is None:
        return relevance(model, case, [], [(nn.BatchNorm2d, share_of_normalized())])
    model.sum = import_module("zennit.layer").Sum()
    model.forward = types.MethodType(forward, model)
    merge = import_module("zennit.canonizers").SequentialMergeBatchNorm()
    return relevance(model, case, [merge], [])


def relevance(
    model: nn.Module, case: Case, canonizers: list[Any], rules: list[tuple[type[nn.Module], Any]]
) -> Floats:
    """The relevance of the pixels, which starts with the score, as ours."""
    composite = import_module("zennit.composites").EpsilonPlusFlat(
        canonizers=canonizers, layer_map=rules
    )
    x = images(case)
    with composite.context(model) as modified:
        scores = modified(x)
        start = torch.zeros_like(scores)
        start[:, case.target] = scores[:, case.target].detach()
        (result,) = torch.autograd.grad(scores, x, start)
    return np.asarray(result)


def share_of_normalized() -> Any:
    """The rule of a normalization: what the input adds, beside the constant, by their magnitudes."""
    hook = import_module("zennit.core").Hook

    class Share(hook):  # type: ignore[misc, valid-type]  # the package may not be there to be typed
        def forward(self, _: Any, x: Any, __: Any) -> None:
            self.stored_tensors["input"] = x

        def backward(self, module: Any, _: Any, grad_output: Any) -> Any:
            (x,) = self.stored_tensors["input"]
            scale = module.weight / (module.running_var + module.eps).sqrt()
            bias = (module.bias - scale * module.running_mean)[:, None, None].abs()
            part = (x * scale[:, None, None]).abs()
            return (part / (part + bias) * grad_output[0],)

    return Share()


def residual_forward(model: Any, image: Tensor) -> Tensor:
    """`Residual.forward` with its sum as a module."""
    x = model.stem(image)
    return model.head(model.layer(model.sum(torch.stack([model.body(x), model.side(x)], -1))))


def depthwise_forward(model: Any, image: Tensor) -> Tensor:
    """`Depthwise.forward` with its sum as a module."""
    x = model.down(model.stem(image))
    return model.head(model.layer(model.sum(torch.stack([x, model.same(x)], -1))))


FORWARDS: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    Residual: residual_forward,
    Depthwise: depthwise_forward,
}

"""DeepLIFT (Shrikumar et al. 2017, arXiv:1704.02685): multipliers between the image and a reference.

The multiplier m of a tensor is what takes the place of its gradient: the sum of (x - x') m is the difference of
the scores (summation to delta). Functions of one number have (y - y') / (x - x'), by the Rescale rule; products
are taken at the midpoint, which is exact; normalizations and Softmax go through their parts. Linear operators
keep their gradients. The README next to this folder lists the operators for which the sum is not exact.
"""

from __future__ import annotations

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._deep_lift import normalization, products, reductions, softmax, unary

rules = DEFAULT | unary.rules | products.rules | softmax.rules | reductions.rules
rules = (rules | normalization.rules).without("LSTM")  # through its parts, unrolled

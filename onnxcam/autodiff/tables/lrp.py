"""Layer-wise relevance propagation (Bach et al. 2015; Kohlbrenner et al. 2020, arXiv:1910.09840).

Cotangents are relevances: they start as the score times its seed, and a rule divides the relevance of y among
the inputs, so that it adds up to that of y as far as no constant absorbs any. The rules are those of zennit's
EpsilonPlusFlat. Functions of one number pass relevance on; operators that move numbers keep their gradients.
The README next to this folder lists the rules.
"""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rule, Rules
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._lrp import joins, layers, normalization, sums
from onnxcam.autodiff.tables._lrp.shares import passed
from onnxcam.graph.operators import DOMAIN, traits_named

FUNCTIONS = ("Softmax", "LogSoftmax")  # of several numbers, but of each of them above all


def _passes(operator: str) -> bool:
    """Whether an operator is a function of one number, and moves none."""
    traits = traits_named(operator)
    return operator in FUNCTIONS or (traits.elementwise == "unary" and traits.moves is None)


activations = Rules(
    {
        operator: Rule((passed, *[None] * (len(rule.functions) - 1)))
        for operator, rule in DEFAULT.items()
        if _passes(operator) and rule.function(0) is not None
    }
)
activations.vjp(  # rounded numbers, also where they were clipped
    "DequantizeLinear",
    None,
    None,
    None,
    lambda r, y, quantized, scale, zero_point, x: r,
    domain=DOMAIN,
)
rules = Rules(DEFAULT, start=lambda seed, score: seed * score)
rules = rules | activations | layers.rules | sums.rules | normalization.rules | joins.rules
rules = rules.without("LSTM")  # relevance goes through its parts, unrolled

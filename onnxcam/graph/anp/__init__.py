"""NumPy for arrays and Values: the functions that can be written into a graph, one row per function.

`anp.exp` is `np.exp` itself, with a type that also accepts Values: for arrays it computes the result, for
Values it writes operators. A rule writes any other operator with `g.build.op`; for arrays alone, use `np`. A
formula calls NumPy itself: `np.exp(value)` writes the same. `value[index]` has a row, too (`indexing.py`).
Functions and arguments without a row are a TypeError.
"""

# ruff: noqa: A004, I001  NumPy's names, many to an import

from onnxcam.graph.anp.elementwise import (
    abs as abs,
    add as add,
    bitwise_and as bitwise_and,
    bitwise_or as bitwise_or,
    clip as clip,
    cos as cos,
    cosh as cosh,
    divide as divide,
    equal as equal,
    exp as exp,
    floor as floor,
    greater as greater,
    greater_equal as greater_equal,
    invert as invert,
    isfinite as isfinite,
    isnan as isnan,
    less as less,
    less_equal as less_equal,
    log as log,
    log2 as log2,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    matmul as matmul,
    maximum as maximum,
    minimum as minimum,
    multiply as multiply,
    negative as negative,
    not_equal as not_equal,
    power as power,
    reciprocal as reciprocal,
    rint as rint,
    sign as sign,
    sin as sin,
    sinh as sinh,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    tanh as tanh,
    where as where,
)
from onnxcam.graph.anp.indexing import (
    take as take,
    take_along_axis as take_along_axis,
)
from onnxcam.graph.anp.reductions import (
    all as all,
    any as any,
    argmax as argmax,
    argmin as argmin,
    argsort as argsort,
    cumsum as cumsum,
    einsum as einsum,
    max as max,
    mean as mean,
    min as min,
    norm as norm,
    prod as prod,
    sort as sort,
    std as std,
    sum as sum,
    var as var,
)
from onnxcam.graph.anp.shapes import (
    broadcast_to as broadcast_to,
    concatenate as concatenate,
    expand_dims as expand_dims,
    full_like as full_like,
    moveaxis as moveaxis,
    ones_like as ones_like,
    reshape as reshape,
    squeeze as squeeze,
    stack as stack,
    swapaxes as swapaxes,
    transpose as transpose,
    zeros_like as zeros_like,
)

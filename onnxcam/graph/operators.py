"""What each operator is: a table with one row of traits per operator, and how passes ask for them."""

from __future__ import annotations

from functools import lru_cache, partial

import onnx_graphsurgeon as gs

from onnxcam.graph.traits import UNKNOWN, Traits

DOMAIN = "onnxcam"  # of the operators that exist only while a graph is rewritten
CONTRIB = "com.microsoft"  # of ONNX Runtime

# Rows of one kind
unary = partial(Traits, elementwise="unary")
broadcasting = partial(Traits, elementwise="broadcasting")
channelwise = partial(Traits, elementwise="channelwise")
constant = partial(Traits, zero_gradient="constant")
strings = partial(Traits, zero_gradient="strings")

TRAITS: dict[str, Traits] = {
    # Elementwise, of one tensor
    "Abs": unary(),
    "Acos": unary(),
    "Acosh": unary(),
    "Asin": unary(),
    "Asinh": unary(),
    "Atan": unary(),
    "Atanh": unary(),
    "BitwiseNot": unary(zero_gradient="takes integers"),
    "Cast": unary(moves="cast"),
    "CastLike": unary(moves="cast", unaligned=True),
    "Ceil": unary(zero_gradient="step"),
    "Celu": unary(),
    "Clip": unary(increasing=True, stays_in_nchwc=True),
    "Cos": unary(),
    "Cosh": unary(),
    "Dropout": unary(unaligned=True, random="training"),
    "Elu": unary(),
    "Erf": unary(),
    "Exp": unary(increasing=True, output_range=(0.0, float("inf"))),
    "Floor": unary(zero_gradient="step"),
    "Gelu": unary(),
    "HardSigmoid": unary(output_range=(0.0, 1.0), stays_in_nchwc=True),
    "HardSwish": unary(),
    "Identity": unary(moves="identity"),
    "IsInf": unary(zero_gradient="truth values"),
    "IsNaN": unary(zero_gradient="truth values"),
    "LeakyRelu": unary(),
    "Log": unary(increasing=True),
    "Mish": unary(),
    "Neg": unary(),
    "Not": unary(zero_gradient="truth values"),
    "PRelu": unary(),
    "Reciprocal": unary(),
    "Relu": unary(stays_in_nchwc=True),
    "Round": unary(zero_gradient="step"),
    "Selu": unary(),
    "Shrink": unary(),
    "Sigmoid": unary(output_range=(0.0, 1.0), output_activation=True, stays_in_nchwc=True),
    "Sign": unary(increasing=True, output_range=(-1.0, 1.0)),
    "Sin": unary(),
    "Sinh": unary(),
    "Softplus": unary(),
    "Softsign": unary(),
    "Sqrt": unary(increasing=True, output_range=(0.0, float("inf")), blends=True),
    "Swish": unary(),
    "Tan": unary(),
    "Tanh": unary(stays_in_nchwc=True),
    "ThresholdedRelu": unary(),
    "com.microsoft::BiasGelu": unary(),
    "com.microsoft::FastGelu": unary(),
    "com.microsoft::QuickGelu": unary(),
    # Elementwise, of several tensors broadcast to each other
    "Add": broadcasting(blends=True, stays_in_nchwc=True),
    "And": broadcasting(zero_gradient="truth values"),
    "BitShift": broadcasting(zero_gradient="takes integers"),
    "BitwiseAnd": broadcasting(zero_gradient="takes integers"),
    "BitwiseOr": broadcasting(zero_gradient="takes integers"),
    "BitwiseXor": broadcasting(zero_gradient="takes integers"),
    "Div": broadcasting(),
    "Equal": broadcasting(zero_gradient="truth values"),
    "Greater": broadcasting(zero_gradient="truth values"),
    "GreaterOrEqual": broadcasting(zero_gradient="truth values"),
    "Less": broadcasting(zero_gradient="truth values"),
    "LessOrEqual": broadcasting(zero_gradient="truth values"),
    "Max": broadcasting(increasing=True, blends=True),
    "Mean": broadcasting(blends=True),
    "Min": broadcasting(increasing=True, blends=True),
    "Mod": broadcasting(),
    "Mul": broadcasting(blends=True, stays_in_nchwc=True),
    "Or": broadcasting(zero_gradient="truth values"),
    "Pow": broadcasting(blends=True),
    "Sub": broadcasting(blends=True),
    "Sum": broadcasting(blends=True),
    "Where": broadcasting(blends=True),
    "Xor": broadcasting(zero_gradient="truth values"),
    # One scale and offset for all channels, or one per channel
    "BatchNormalization": channelwise(channels_second=True, stays_in_nchwc=True),
    "DequantizeLinear": channelwise(quantizes=True),
    "QuantizeLinear": channelwise(quantizes=True, zero_gradient="gives integers"),
    "onnxcam::DequantizeLinear": channelwise(quantizes=True),
    "DynamicQuantizeLinear": Traits(zero_gradient="gives integers", atomic=True),
    # Numbers moved, not changed
    "Compress": Traits(),
    "Concat": Traits(moves="join"),
    "DepthToSpace": Traits(moves="blocks"),
    "Expand": Traits(moves="repeat"),
    "Flatten": Traits(moves="view"),
    "Gather": Traits(moves="gather"),
    "GatherElements": Traits(),
    "GatherND": Traits(moves="select"),
    "Pad": Traits(moves="pad"),
    "Reshape": Traits(moves="view"),
    "ReverseSequence": Traits(),
    "Scatter": Traits(),
    "ScatterElements": Traits(),
    "ScatterND": Traits(),
    "Slice": Traits(moves="slice"),
    "SpaceToDepth": Traits(moves="blocks"),
    "Split": Traits(moves="slice"),
    "Squeeze": Traits(moves="view"),
    "Tile": Traits(moves="repeat"),
    "TopK": Traits(loses_positions=True),
    "Transpose": Traits(moves="transpose"),
    "Trilu": Traits(),
    "Unique": Traits(loses_positions=True),
    "Unsqueeze": Traits(moves="view"),
    # Windows and resampling
    "AffineGrid": Traits(),
    "AveragePool": Traits(window="pool", keeps_range=True, blends=True),
    "Col2Im": Traits(),
    "Conv": Traits(window="conv"),
    "ConvInteger": Traits(window="integer conv", zero_gradient="takes integers"),
    "ConvTranspose": Traits(window="transposed conv"),
    "GlobalAveragePool": Traits(window="global pool", keeps_range=True, blends=True),
    "GlobalLpPool": Traits(window="global pool"),
    "GlobalMaxPool": Traits(window="global pool", keeps_range=True, blends=True),
    "GridSample": Traits(loses_positions=True),
    "LpPool": Traits(window="pool"),
    "MaxPool": Traits(window="pool", moves="select", keeps_range=True, blends=True),
    "MaxUnpool": Traits(channels_second=True),
    "QLinearConv": Traits(window="integer conv", zero_gradient="takes integers"),
    "Resize": Traits(blends=True),
    "RoiAlign": Traits(),
    "Upsample": Traits(),
    # Normalizations
    "GroupNormalization": Traits(channels_second=True),
    "Hardmax": Traits(normalizes="axis", zero_gradient="step"),
    "InstanceNormalization": Traits(channels_second=True),
    "LRN": Traits(channels_second=True),
    "LayerNormalization": Traits(normalizes="trailing"),
    "LogSoftmax": Traits(normalizes="axis", output_activation=True),
    "LpNormalization": Traits(normalizes="axis"),
    "MeanVarianceNormalization": Traits(),
    "RMSNormalization": Traits(normalizes="trailing"),
    "SimplifiedLayerNormalization": Traits(normalizes="trailing"),
    "Softmax": Traits(normalizes="axis", output_range=(0.0, 1.0), output_activation=True),
    # Sums and reductions
    "CumSum": Traits(),
    "Einsum": Traits(contracts=True),
    "GRU": Traits(),
    "Gemm": Traits(contracts=True),
    "LSTM": Traits(),
    "MatMul": Traits(contracts=True),
    "MatMulInteger": Traits(zero_gradient="takes integers"),
    "QLinearMatMul": Traits(zero_gradient="takes integers"),
    "RNN": Traits(),
    "ReduceL1": Traits(reduces=True),
    "ReduceL2": Traits(reduces=True),
    "ReduceLogSum": Traits(reduces=True),
    "ReduceLogSumExp": Traits(reduces=True),
    "ReduceMax": Traits(reduces=True, keeps_range=True, blends=True),
    "ReduceMean": Traits(reduces=True, keeps_range=True, blends=True),
    "ReduceMin": Traits(reduces=True, keeps_range=True, blends=True),
    "ReduceProd": Traits(reduces=True, blends=True),
    "ReduceSum": Traits(reduces=True, blends=True),
    "ReduceSumSquare": Traits(reduces=True),
    "com.microsoft::FusedMatMul": Traits(contracts=True),
    # Indices, sizes, constants
    "ArgMax": Traits(zero_gradient="indices"),
    "ArgMin": Traits(zero_gradient="indices"),
    "BlackmanWindow": constant(),
    "Constant": constant(),
    "ConstantOfShape": constant(loses_positions=True),
    "EyeLike": constant(),
    "HammingWindow": constant(),
    "HannWindow": constant(),
    "MelWeightMatrix": constant(),
    "NonMaxSuppression": Traits(zero_gradient="indices"),
    "NonZero": Traits(zero_gradient="indices", loses_positions=True),
    "OptionalHasElement": Traits(zero_gradient="sizes"),
    "Range": constant(atomic=True),
    "SequenceLength": Traits(zero_gradient="sizes"),
    "Shape": Traits(zero_gradient="sizes", reads_shape=True, loses_positions=True),
    "Size": Traits(zero_gradient="sizes", reads_shape=True, loses_positions=True),
    # Random numbers
    "Bernoulli": Traits(zero_gradient="random", random="always", atomic=True),
    "Multinomial": Traits(zero_gradient="random", random="always"),
    "RandomNormal": Traits(zero_gradient="random", random="always"),
    "RandomNormalLike": Traits(zero_gradient="random", random="always"),
    "RandomUniform": Traits(zero_gradient="random", random="always"),
    "RandomUniformLike": Traits(zero_gradient="random", random="always"),
    # Control flow and containers
    "If": Traits(control_flow=True),
    "Loop": Traits(control_flow=True),
    "Optional": Traits(container=True),
    "Scan": Traits(control_flow=True),
    "SequenceConstruct": Traits(container=True),
    "SequenceInsert": Traits(container=True),
    "SequenceMap": Traits(atomic=True),
    "SplitToSequence": Traits(container=True),
    "ai.onnx.ml::ZipMap": Traits(container=True),
    # Text and files
    "ImageDecoder": strings(),
    "RegexFullMatch": strings(),
    "StringConcat": strings(),
    "StringNormalizer": strings(),
    "StringSplit": strings(),
    "TfIdfVectorizer": strings(),
}


def operator_key(operator: str, domain: str | None = "") -> str:
    """How tables name an operator: `Relu`, or `com.microsoft::Gelu` outside ONNX's default domain."""
    return f"{domain}::{operator}" if domain not in (None, "", "ai.onnx") else operator


@lru_cache(maxsize=1024)
def traits_named(operator: str, domain: str | None = "") -> Traits:
    """The row of an operator; UNKNOWN if it has none.

    An operator of ONNX Runtime or of ours without a row, but with the name of one of ONNX
    (`com.microsoft::Gelu`), is a variant of that one.
    """
    row = TRAITS.get(operator_key(operator, domain))
    if row is None and domain in (CONTRIB, DOMAIN):
        row = TRAITS.get(operator)
    return row or UNKNOWN


def traits_of(node: gs.Node) -> Traits:
    """The traits of a node's operator."""
    return traits_named(node.op, node.domain)


def only_reshapes(traits: Traits) -> bool:
    """Whether the operator changes no more than the shape or the dtype of its first input."""
    return traits.moves in ("identity", "cast", "view")


def is_elementwise(traits: Traits) -> bool:
    """Whether each output element depends only on the input elements at its position, after broadcasting."""
    return traits.elementwise in ("unary", "broadcasting")

"""Operators that rules write have rules: `test_conformance` checks all cases, this module varied ones."""

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from tests.autodiff.support.closure import emitted_operators
from tests.autodiff.support.wheel import prepare

VARIED = (  # cases whose gradients are written with many different operators
    "test_averagepool_2d_pads_count_include_pad",
    "test_clip",
    "test_convtranspose",
    "test_cumsum_1d",
    "test_einsum_batch_matmul",
    "test_gather_elements_1",
    "test_gelu_default_1",
    "test_gridsample_bilinear",
    "test_layer_normalization_2d_axis0",
    "test_lstm_defaults",
    "test_maxpool_2d_default",
    "test_prelu_example",
    "test_reduce_prod_default_axes_keepdims_random",
    "test_resize_upsample_scales_linear",
    "test_roialign_aligned_true",
    "test_softmax_axis_1",
    "test_softplus",
    "test_tan",
    "test_top_k",
    "test_where_example",
)


def test_emitted_operators_are_many_and_have_rules() -> None:
    operators: set[str] = set()
    for name in VARIED:
        case = prepare(name)
        for output, wrt in case.wrt.items():
            operators |= emitted_operators(gradient(load(case.proto), wrt, output))
    assert len(operators) > 30
    assert operators - DEFAULT.keys() == set()

"""A method offers the settings of its sampler that have a meaning for it."""

from onnxcam.methods import SAMPLERS


def test_setting_that_replaces_no_quantity_of_the_method_does_not_concern_it() -> None:
    gaussian = SAMPLERS["gaussian"]
    assert gaussian.concerns("activation", {"activation", "d1"})
    assert not gaussian.concerns("activation", {"d1"})
    assert gaussian.concerns("samples", {"d1"})

"""The blur equals a window of weights that is moved over the image."""

import numpy as np
import pytest

from onnxcam.methods.blur import (
    Blur,
    blur_by_products,
    blur_inside,
    blur_inside_by_products,
    describe_kernels,
)
from tests.methods.support.image_twins import blurred
from tests.support.nets import random_images

X = random_images(2, (3, 7, 10)).astype(np.float64)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.5, 40.0])
def test_blur_equals_twin(sigma: float) -> None:
    expected = np.stack([blurred(x, sigma) for x in X])
    np.testing.assert_allclose(Blur(X)(sigma), expected, rtol=0, atol=1e-13)


def test_blur_inside_keeps_constant_images() -> None:
    constant = np.full((1, 2, 5, 6), 3.0)
    np.testing.assert_allclose(blur_inside(constant, 2.0), constant, rtol=1e-12)
    assert Blur(constant)(2.0).max() < 3.0


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.5, 40.0])
def test_blur_by_products_equals_blur(sigma: float) -> None:
    kernels = describe_kernels([sigma])
    np.testing.assert_allclose(blur_by_products(X, kernels), Blur(X)(sigma), rtol=0, atol=1e-6)
    inside = blur_inside(X, sigma)
    np.testing.assert_allclose(blur_inside_by_products(X, kernels), inside, rtol=0, atol=1e-6)


def test_kernels_differ_from_image_to_image() -> None:
    blurred_images = blur_by_products(X, describe_kernels([0.7, 2.5]))
    expected = [Blur(image[None])(sigma)[0] for image, sigma in zip(X, (0.7, 2.5), strict=True)]
    np.testing.assert_allclose(blurred_images, expected, rtol=0, atol=1e-6)

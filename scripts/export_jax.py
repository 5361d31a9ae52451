"""A JAX function through jax2onnx: channels last, strided SAME convolution, layer norm, attention.

pip install jax jaxlib jax2onnx
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax2onnx import to_onnx

from scripts.fixtures import draw, save


def network() -> Callable[[jax.Array], jax.Array]:
    kernel = jnp.asarray(draw(3, 3, 3, 16, seed=3) * 0.3)
    mixed = [jnp.asarray(draw(16, 16, seed=seed) * 0.25) for seed in range(4, 8)]
    head = jnp.asarray(draw(16, 5, seed=8))

    def scores(image: jax.Array) -> jax.Array:
        x = jax.lax.conv_general_dilated(
            image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.gelu(x).reshape(x.shape[0], -1, 16)
        mean = jnp.mean(x, axis=-1, keepdims=True)
        x = (x - mean) / jnp.sqrt(jnp.mean((x - mean) ** 2, axis=-1, keepdims=True) + 1e-5)
        q, k, v = (x @ weight for weight in mixed[:3])
        attention = jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2) / 4.0, axis=-1)
        x = x + (attention @ v) @ mixed[3]
        return jnp.mean(jnp.tanh(x), axis=1) @ head

    return scores


def main() -> None:
    scores = network()
    x, cotangent = draw(2, 13, 10, 3, seed=1), draw(2, 5, seed=2)
    gradient = jax.grad(lambda image: jnp.sum(scores(image) * cotangent))(jnp.asarray(x))
    exported = to_onnx(scores, inputs=[jax.ShapeDtypeStruct((2, 13, 10, 3), jnp.float32)])
    save("jax", exported, x, cotangent, np.asarray(scores(jnp.asarray(x))), np.asarray(gradient))


if __name__ == "__main__":
    main()

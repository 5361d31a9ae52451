"""A Keras model through tf2onnx: channels last, SAME padding with strides, depthwise, batch norm, ReLU6.

pip install tensorflow-cpu==2.21.* tf2onnx==1.17.*
"""

from __future__ import annotations

import tensorflow as tf
import tf2onnx

from scripts.fixtures import draw, save


def network() -> tf.keras.Model:
    layers = tf.keras.layers
    x = inputs = layers.Input((25, 22, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(4, strides=2, padding="same")(x)
    x = layers.Activation("swish")(x)
    skip = x = layers.Conv2D(12, 1, activation="relu")(x)
    x = layers.Conv2D(12, 3, padding="same", dilation_rate=2, activation="elu")(x)
    x = layers.Add()([x, skip])
    x = layers.Concatenate()(
        [layers.MaxPool2D(3, 2, "same")(x), layers.AveragePooling2D(3, 2, "same")(x)]
    )
    x = layers.UpSampling2D(2)(x)
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, layers.Dense(5, name="scores")(x))


def main() -> None:
    tf.keras.utils.set_random_seed(0)
    model = network()
    for layer in model.layers:  # statistics as training would leave them
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma + 0.3, beta + 0.1, mean + 0.2, variance + 0.5])
    x, cotangent = draw(2, 25, 22, 3, seed=1), draw(2, 5, seed=2)
    with tf.GradientTape() as tape:
        image = tf.constant(x)
        tape.watch(image)
        scores = model(image, training=False)
        value = tf.reduce_sum(scores * cotangent)
    gradient = tape.gradient(value, image).numpy()
    signature = [tf.TensorSpec((None, 25, 22, 3), tf.float32, name="image")]
    for opset in (13, 18):
        exported, _ = tf2onnx.convert.from_function(
            tf.function(lambda image: model(image, training=False), input_signature=signature),
            input_signature=signature,
            opset=opset,
        )
        save(f"keras_{opset}", exported, x, cotangent, scores.numpy(), gradient)


if __name__ == "__main__":
    main()

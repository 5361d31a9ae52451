"""A Paddle network through paddle2onnx: batch norm, hard swish, squeeze and excite, bilinear upsampling.

pip install paddlepaddle paddle2onnx
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import paddle
from paddle import Tensor, nn

from scripts.fixtures import draw, save


class Network(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2D(8, 8, 5, 1, 2, groups=8), nn.BatchNorm2D(8), nn.ReLU()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2D(1),
            nn.Conv2D(8, 4, 1),
            nn.ReLU(),
            nn.Conv2D(4, 8, 1),
            nn.Hardsigmoid(),
        )
        self.pool = nn.MaxPool2D(3, 2, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = x + self.depthwise(x)
        x = self.pool(x * self.squeeze(x))
        x = nn.functional.interpolate(x, size=[12, 10], mode="bilinear", align_corners=False)
        return self.head(x.mean([2, 3]))


def main() -> None:
    paddle.seed(0)
    model = Network()
    model.eval()
    x, cotangent = draw(2, 3, 21, 18, seed=1), draw(2, 5, seed=2)
    image = paddle.to_tensor(x, stop_gradient=False)
    scores = model(image)
    (scores * paddle.to_tensor(cotangent)).sum().backward()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paddle"
        spec = [paddle.static.InputSpec([None, 3, 21, 18], "float32", "image")]
        paddle.onnx.export(model, str(path), input_spec=spec, opset_version=13)
        exported = onnx.load(path.with_suffix(".onnx"))
    save("paddle", exported, x, cotangent, scores.numpy(), image.grad.numpy())


if __name__ == "__main__":
    main()

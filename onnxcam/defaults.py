"""What is chosen unless the user says otherwise. Nothing is imported here, so that `onnxcam --help` is fast."""

DEFAULT_METHOD = "smooth-grad-cam++"

# what `compare` shows: each family that suits most models, in seconds
COMPARED = (
    "grad-cam",
    "grad-cam++",
    DEFAULT_METHOD,
    "layer-cam",
    "saliency",
    "integrated-gradients",
    "deep-lift",
)
MOST = 20  # targets of an image that "all" stands for
LEAST = 0.3  # the smallest probability of a detection, region, or character that "all" stands for

"""What is chosen unless the user says otherwise. Nothing is imported here, so that `onnxcam --help` is fast."""

DEFAULT_METHOD = "smooth-grad-cam++"

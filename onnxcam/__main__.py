"""Run the command line: `python -m onnxcam` is the same as the command `onnxcam`."""

from onnxcam.cli import main

if __name__ == "__main__":
    main()

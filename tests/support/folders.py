"""What a folder of results holds."""

from pathlib import Path

from onnxcam.atomic_write import UNFINISHED_NAME


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder by name, without those that are still being written."""
    paths = [path for path in folder.iterdir() if not UNFINISHED_NAME.fullmatch(path.name)]
    return {path.name: path.read_bytes() for path in paths}

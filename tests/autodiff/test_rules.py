"""Rules are found in the files of their folder."""

from pathlib import Path

from onnxcam.autodiff.rules import rule_modules


def test_modules_with_a_leading_underscore_hold_no_rules(tmp_path: Path) -> None:
    for name in ("relu.py", "_shared.py", "__init__.py"):
        (tmp_path / name).touch()
    assert rule_modules([str(tmp_path)]) == ["relu"]

"""The list of messages that users read: which texts it contains."""

import pytest

from scripts.messages import PACKAGE, main, messages

SOURCE = '''
"""A docstring is not listed."""
SHORT = "two words"
NAME = 3


def fail(path):
    """Nor is this one."""
    raise ValueError(f"{path}: cannot be read, "
                     f"because {NAME} files are open")
'''


def test_messages_are_listed_with_their_values() -> None:
    assert list(messages(SOURCE)) == [(9, "{path}: cannot be read, because {NAME} files are open")]


def test_every_module_of_a_folder_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([PACKAGE / "errors.py", PACKAGE / "cli"])
    output = capsys.readouterr().out
    assert "onnxcam/errors.py" in output
    assert "onnxcam/cli/parsing.py" in output


def test_help_of_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    output = capsys.readouterr().out
    for command in ("explain", "layers", "methods", "check", "augment", "demo", "doctor"):
        assert f"Usage: {command}" in output

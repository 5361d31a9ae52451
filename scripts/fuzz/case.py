"""What a case is, and how it can end."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from onnxcam.errors import OnnxcamError, OnnxcamNotice, UnforeseenError

PACKAGE = f"{Path('onnxcam')}/"

# How a case can end. Those in FINE are as they should be; the others are listed.
OUTCOMES = {
    "right": "scores equal the plain model's, and the gradient equals differences if it is smooth",
    "not smooth": "the scores are right; differences of float32 say nothing about the gradient",
    "beyond": "explained, and the plain model does not run: nothing to compare with",
    "refused": "one of onnxcam.errors",
    "wrong": "another score, gradient, map or file than the right one",
    "bare": "an exception that is not one of onnxcam.errors",
    "internal": "an UnforeseenError: a bug in onnxcam",
    "warned": "a warning that users would see",
    "hang": "longer than the limit",
    "crash": "the process died",
    "memory": "more memory than the limit",
    "no case": "the script failed to make the case",
    "runtime too": "the process hangs or dies, and so does ONNX Runtime alone with the plain model",
    "runtime alone": "onnxcam has done its part, and ONNX Runtime hangs or dies with the plain model",
}
FINE = {"right", "not smooth", "beyond", "refused", "runtime alone"}


class WrongError(Exception):
    """A result is wrong; the message says how."""


class NotSmoothError(Exception):
    """Nothing can be said about the gradient; the message says why."""


class BeyondError(Exception):
    """The plain model does not run."""


class WarnedError(Exception):
    """A warning reached the user."""


@dataclass(frozen=True)
class Case:
    """`what` is done; the `files` to store if it fails; `run`, in a folder with only these files, returns if
    the outcome is right and raises otherwise; `plain` does the same with ONNX Runtime alone.
    """

    what: str
    files: Mapping[str, bytes]
    run: Callable[[Path], None]
    plain: Callable[[Path], None] | None = None


class Phase:
    """Announces to the worker's parent that the plain model runs next, in case the process dies there."""

    announce: Callable[[str], None] = staticmethod(lambda _: None)


Maker = Callable[[Random], Case]


@dataclass(frozen=True)
class Ending:
    """How a case ended; `frame` is the innermost one in onnxcam, which distinguishes failures."""

    outcome: str
    detail: str = ""
    frame: str = ""
    trace: str = field(default="", compare=False)


def write_files(case: Case, folder: Path) -> None:
    """Write the files of a case into a folder."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def ending_of(case: Case, folder: Path) -> Ending:
    """Run a case in this process."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", append=True)  # what users see: existing filters stay
        warnings.simplefilter("ignore", OnnxcamNotice)  # what is meant to be seen
        ending = _ending(case, folder)
    if seen and ending.outcome in FINE:
        first = seen[0]
        where = f"{Path(first.filename).name}:{first.lineno}"
        return Ending(
            "warned", f"{first.category.__name__}: {first.message} ({where})"[:300], where
        )
    return ending


def _ending(case: Case, folder: Path) -> Ending:
    try:
        case.run(folder)
    except Exception as error:  # noqa: BLE001  any exception is classified
        return classify(error)
    return Ending("right")


def classify(error: Exception) -> Ending:
    """The ending that an exception means."""
    detail = f"{type(error).__name__}: {one_line(error)}"[:400]
    names = {WrongError: "wrong", NotSmoothError: "not smooth", BeyondError: "beyond"}
    names[WarnedError] = "warned"
    if type(error) in names:
        return Ending(names[type(error)], one_line(error)[:400])
    frame, trace = innermost(error), "".join(traceback.format_exception(error))
    if isinstance(error, OnnxcamError):
        outcome = "internal" if is_internal(error) else "refused"
        return Ending(outcome, detail, innermost(error.__cause__ or error), trace)
    outcome = "memory" if isinstance(error, MemoryError) else "bare"
    return Ending(outcome, detail, frame, trace)


def is_internal(error: OnnxcamError) -> bool:
    """Whether an error of onnxcam says that onnxcam itself failed."""
    return isinstance(error, UnforeseenError)


def innermost(error: BaseException) -> str:
    """FILE:FUNCTION of the innermost frame in onnxcam that an exception passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if PACKAGE in frame.filename]
    if not own:
        return ""
    path = own[-1].filename.rpartition(PACKAGE)[2]
    return f"{path}:{own[-1].name}"


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def failure_signature(detail: str) -> str:
    """A detail without its numbers and names, which is the same for failures of one kind."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|-?\d[\d.e+-]*|/\S+", "#", detail)[:80]

"""Every error that onnxcam raises on purpose.

OnnxcamError
├── ModelError              the .onnx file: unreadable, invalid, or of a kind that cannot be explained
│   ├── MissingRuleError    operators between the layer and the score that have no gradient rule
│   ├── BlockedError        no gradient reaches a layer from the score: `.node` stops it
│   ├── NodeError           an operator of the model is not valid: `.operator`, `.node`
│   └── NeedsOpsetError     an operator that must be written needs a newer opset: `.operator`, `.opset`
├── UnforeseenError         a bug in onnxcam: `.cause`, and `.operator`, `.node` where it happened
├── UnknownNameError        no such layer, tensor, method or preset: `.name`, `.known`, `.close`
├── ImageError              an image that cannot be read
├── TargetError             a class, label or contrast that the model does not have
│   └── PlaceError          a box, pixel or step of a target that one image does not have
├── SettingError            a setting that is out of range or that the method does not have
├── DeviceError             a device that is not available
├── RunError                ONNX Runtime failed while running the model
│   └── OutOfMemoryError    the device has too little memory for the model or the batch
└── OutputError             a result that cannot be written

Messages say what is wrong, where, what was expected and what to do next. The command line prints
them on one line and exits with code 2. Any other failure while a model is read or rewritten becomes an
UnforeseenError, a bug in onnxcam that should be reported: it is not a ModelError, and its `__cause__` is the
original exception. Any other exception that leaves onnxcam is a bug, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_LINE = 300  # characters
AFTER = "choose a layer after it, if there is one (`onnxcam layers --all`)"


class OnnxcamNotice(UserWarning):
    """What a user should know about a result: an assumption, or a limit. An explainer gives each notice once as
    a warning of this kind; `warnings.filterwarnings("ignore", category=onnxcam.OnnxcamNotice)` hides them. They
    remain in `Explanation.notices`. The command line prints them itself.
    """


class OnnxcamError(Exception):
    """The base class of all errors that onnxcam raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes: they cannot be passed to `__init__` again."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[OnnxcamError], args: tuple[Any, ...], attributes: Mapping[str, Any]
) -> OnnxcamError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ModelError(OnnxcamError):
    """The model cannot be read, is not valid, or is of a kind that cannot be explained."""


class BlockedError(ModelError):
    """No gradient reaches a tensor from the score. `obstacle` says what stops the gradient, and `node` is the
    name of the node that stops it; the message ends with a `hint`.
    """

    def __init__(self, obstacle: str, node: str = "", hint: str = AFTER) -> None:
        self.obstacle, self.node, self.hint = obstacle, node, hint
        super().__init__(f"{obstacle}; {hint}")

    def with_hint(self, hint: str) -> BlockedError:
        """This error with a new hint."""
        return BlockedError(self.obstacle, self.node, hint)


class MissingRuleError(ModelError):
    """Operators on the path have no gradient rule; `operators` maps each to the names of its nodes, `node` is
    the last of them.

    `reasons` explains for some operators why they have no rule and what to do. The message has all this and a
    `hint`.
    """

    def __init__(
        self,
        operators: dict[str, list[str]],
        reasons: Mapping[str, str] | None = None,
        hint: str = f"{AFTER}, or add a rule in onnxcam/autodiff/rules",
    ) -> None:
        self.operators, self.reasons, self.hint = operators, dict(reasons or {}), hint
        self.node = [*operators.values()][-1][-1]
        listed = ", ".join(
            f"{op} ({nodes[0] if len(nodes) == 1 else f'{len(nodes)} nodes, first {nodes[0]}'})"
            for op, nodes in operators.items()
        )
        explained = "".join(f"; {op} {reason}" for op, reason in self.reasons.items())
        is_single = len(operators) == 1
        super().__init__(
            f"{len(operators)} {'operator' if is_single else 'operators'} between the layer and the score "
            f"{'has' if is_single else 'have'} no gradient rule: {listed}{explained}; "
            f"{hint}"
        )

    def with_hint(self, hint: str) -> MissingRuleError:
        """This error with a new hint."""
        return MissingRuleError(self.operators, self.reasons, hint)


class NodeError(ModelError):
    """An operator of the model is not valid: `operator` (`com.microsoft::Gelu`) and the name of the `node`."""

    def __init__(self, message: str, operator: str = "", node: str = "") -> None:
        self.operator, self.node = operator, node
        super().__init__(message)


class UnforeseenError(OnnxcamError):
    """A bug in onnxcam: an unexpected exception of the type named `cause` (`ZeroDivisionError`).
    `operator` and `node` say where it happened, and are empty if that is unknown.
    """

    def __init__(self, message: str, cause: str = "", operator: str = "", node: str = "") -> None:
        self.cause, self.operator, self.node = cause, operator, node
        super().__init__(message)


class NeedsOpsetError(ModelError):
    """An `operator` that must be written does not exist at the model's opset in the form that is needed; it
    does from `opset` on.
    """

    def __init__(self, operator: str, opset: int) -> None:
        self.operator, self.opset = operator, opset
        super().__init__(
            f"{operator} needs opset {opset}; export the model with opset {opset} or newer"
        )


class UnknownNameError(OnnxcamError):
    """No layer, tensor, method, … has this `name`. `known` are the names that exist, `close` those of them
    that were perhaps meant.
    """

    def __init__(
        self, message: str, name: str = "", known: Iterable[str] = (), close: Iterable[str] = ()
    ) -> None:
        self.name, self.known, self.close = name, list(known), list(close)
        super().__init__(message)


class ImageError(OnnxcamError):
    """An image that cannot be read."""


class TargetError(OnnxcamError):
    """A target that the model does not have."""


class PlaceError(TargetError):
    """A place of a target that one image does not have, though others may have it."""


class SettingError(OnnxcamError):
    """A setting out of its range, or one that the method does not have."""


class DeviceError(OnnxcamError):
    """A device that is not available."""


class RunError(OnnxcamError):
    """ONNX Runtime failed while running the model."""


class OutOfMemoryError(RunError):
    """The device has too little memory for the model, or for so many images at once."""


class OutputError(OnnxcamError):
    """A result that cannot be written."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a `name` that is not among the `known` ones, with similar names or else the `hint`."""
    known = list(known)
    close = (
        difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        or [candidate for candidate in known if name and name.lower() in candidate.lower()][:3]
    )
    advice = f"; did you mean {' or '.join(close)}?" if close else f"; {hint}" if hint else ""
    return UnknownNameError(f"no {kind} {name!r}{advice}", name, known, close)


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut off if it is very long; its type if there is no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:LONGEST_LINE] if lines else type(error).__name__

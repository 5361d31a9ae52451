"""Every error that onnxcam raises on purpose.

OnnxcamError
├── ModelError              the .onnx file: unreadable, invalid, or of a kind that cannot be explained
│   ├── MissingRuleError    operators between the layer and the score that have no gradient rule
│   ├── BlockedError        no derivative flows from the score back to a layer: `.node` stops it
│   └── NodeError           an operator of the model is not valid: `.operator`, `.node`
├── UnforeseenError         a bug in onnxcam: `.cause`, and `.operator`, `.node` where it happened
├── UnknownNameError        a layer, tensor, method, preset or device that is not there (says what is close)
├── ImageError              a picture that cannot be read
├── TargetError             a class, label or contrast that the model does not have
├── SettingError            a setting that is out of range or not one of the method's
├── DeviceError             a device that was asked for and not given
├── RunError                ONNX Runtime failed while running the model
└── OutputError             a result that could not be written

Messages say what is wrong, where, what was expected and what to do next. The command line prints
them as one line and exits with code 2. Any other failure while a model is read or rewritten becomes an
UnforeseenError, a bug in onnxcam that should be reported: it is not a ModelError, and its `__cause__` is the
original exception. Any other exception that leaves onnxcam is a bug, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

AFTER = "choose a layer after it, if there is one (`onnxcam layers --all`)"


class OnnxcamError(Exception):
    """The root: catch this to catch everything that onnxcam raises on purpose."""


class ModelError(OnnxcamError):
    """The model cannot be read, is not valid, or is of a kind that cannot be explained."""


class BlockedError(ModelError):
    """No derivative flows from the score back to a tensor. `obstacle` says what stops it, and `node` is the
    name of the node that does; the message ends with a `cure`.
    """

    def __init__(self, obstacle: str, node: str = "", cure: str = AFTER) -> None:
        self.obstacle, self.node, self.cure = obstacle, node, cure
        super().__init__(f"{obstacle}; {cure}")

    def with_cure(self, cure: str) -> BlockedError:
        """The same error with another cure."""
        return BlockedError(self.obstacle, self.node, cure)


class MissingRuleError(ModelError):
    """Operators on the path have no gradient rule; `operators` maps each to the names of its nodes, `node` is
    the last of them.

    `reasons` says for some why they have none and what to do; the message has them all, and a `cure`.
    """

    def __init__(
        self,
        operators: dict[str, list[str]],
        reasons: Mapping[str, str] | None = None,
        cure: str = f"{AFTER}, or add a rule in onnxcam/autodiff/rules",
    ) -> None:
        self.operators, self.reasons, self.cure = operators, dict(reasons or {}), cure
        self.node = [*operators.values()][-1][-1]
        listed = ", ".join(f"{op} x{len(nodes)} ({nodes[0]})" for op, nodes in operators.items())
        told = "".join(f"; {op} {why}" for op, why in self.reasons.items())
        super().__init__(
            f"{len(operators)} operator{'s' * (len(operators) > 1)} between the layer and the score "
            f"{'have' if len(operators) > 1 else 'has'} no gradient rule: {listed}{told}; "
            f"{cure}"
        )

    def with_cure(self, cure: str) -> MissingRuleError:
        """The same error with another cure."""
        return MissingRuleError(self.operators, self.reasons, cure)


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


class UnknownNameError(OnnxcamError):
    """A name that is not there."""


class ImageError(OnnxcamError):
    """A picture that cannot be read."""


class TargetError(OnnxcamError):
    """A target that the model does not have."""


class SettingError(OnnxcamError):
    """A setting out of its range, or one that the method does not have."""


class DeviceError(OnnxcamError):
    """A device that was asked for and not given."""


class RunError(OnnxcamError):
    """ONNX Runtime failed while it ran the model."""


class OutputError(OnnxcamError):
    """A result that could not be written."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a `name` that is not among the `known` ones; it names the close ones."""
    known = list(known)
    close = (
        difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        or [each for each in known if name and name.lower() in each.lower()][:3]
    )
    cure = f"; did you mean {' or '.join(close)}?" if close else f"; {hint}" if hint else ""
    return UnknownNameError(f"no {kind} {name!r}{cure}")


def one_line(fault: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(each.strip() for each in str(fault).splitlines() if each.strip())


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank; the name of its class if there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

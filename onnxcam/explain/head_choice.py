"""Read what a user says about the outputs of a model: `--task` and `--head`."""

from __future__ import annotations

from onnxcam.dense import HeadChoice
from onnxcam.errors import SettingError, unknown
from onnxcam.heads.boxes.forms import FORMS
from onnxcam.heads.tasks.task import TASKS

PARTS = "boxes", "scores", "objectness", "classes"
USAGE = "a form of boxes, or boxes=NAME,scores=NAME[,objectness=NAME][,classes=AXIS]"


def parse_head(task: str | None, head: str | None) -> HeadChoice:
    """What a user says about the outputs: `task`, one of `TASKS`, and `head`, a form of boxes such as "yolov8",
    or the names of tensors: "boxes=NAME,scores=NAME", "objectness=NAME", and "classes=AXIS".

    Raises UnknownNameError for an unknown task or form, SettingError for anything else.
    """
    if task and task not in TASKS:
        raise unknown("task", task, TASKS, f"known: {', '.join(TASKS)}")
    if not head:
        return HeadChoice(task=task or "")
    if "=" not in head:
        if head not in FORMS:
            raise unknown("head", head, FORMS, f"known: {', '.join(FORMS)}; or {USAGE}")
        return HeadChoice(task=task or "detection", form=head)
    parts = dict(_read_part(head, part) for part in head.split(","))
    axis = parts.pop("classes", None)
    if axis is not None and not axis.removeprefix("-").isdigit():
        raise SettingError(f"head {head!r}: classes={axis!r} is not the number of an axis")
    implied = "detection" if "boxes" in parts or "objectness" in parts else ""
    return HeadChoice(task or implied, class_axis=None if axis is None else int(axis), **parts)


def _read_part(head: str, part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    if name.strip() not in PARTS or not value.strip():
        raise SettingError(f"head {head!r}: {part.strip()!r} was not understood; expected {USAGE}")
    return name.strip(), value.strip()

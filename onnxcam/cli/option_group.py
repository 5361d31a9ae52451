"""Options that several commands share, as a group that stands in the place of one parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeAlias

Command: TypeAlias = Callable[..., None]


def options_of(
    group: Callable[..., dict[str, Any]], parameter: str, missing: Collection[str] = ()
) -> Callable[[Command], Command]:
    """A decorator that puts the parameters of `group`, but for the `missing` ones, in the place of a command's
    `parameter`, which gets what `group` returns for them.
    """
    signature = inspect.signature(group, eval_str=True).parameters
    shared = {name: option for name, option in signature.items() if name not in missing}

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            options = shared.values() if own.name == parameter else [own]
            parameters += (row.replace(kind=inspect.Parameter.KEYWORD_ONLY) for row in options)

        @wraps(command)
        def run(**values: Any) -> None:
            grouped = group(**{name: values.pop(name) for name in shared})
            command(**values, **{parameter: grouped})

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {row.name: row.annotation for row in parameters}
        return run

    return decorate

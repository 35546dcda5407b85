"""Options in groups: a data class in a command's signature stands for its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

from typer.core import TyperCommand


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take data classes whose fields are Typer options.

    Typer makes options out of a function's parameters and knows no groups of them. The function that is returned
    has the fields of each data class in its place, and puts the data classes together before the call::

        @app.command(cls=Sections)
        @grouped
        def build(model: Model, data: DataFlags) -> None: ...
    """
    flat: list[inspect.Parameter] = []
    groups: dict[str, Callable[..., Any]] = {}
    for parameter in _parameters(function):
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            flat += _parameters(kind)
        else:
            flat.append(parameter)

    @wraps(function)
    def call(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in _parameters(group)})
            for name, group in groups.items()
        }
        function(**given, **made)

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return call


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of a function or a data class, by keyword, so that a default may stand before none."""
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in found]


class Sections(TyperCommand):
    """A command whose help lists its options by ``rich_help_panel``, as Typer does where Rich draws."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None)
                sections.setdefault(panel or usual, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

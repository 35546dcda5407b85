"""Passes over the ONNX graph between parse and calibrate, each float-equivalent within a stated bound.

A pass is a function from model to model, listed here by name and imported when it runs. The driver
applies those that are on, in this order, and the manifest names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.model import Model


@dataclass(frozen=True)
class Pass:
    """One preparation pass.

    Attributes:
        name: What ``--pass NAME=off`` and the manifest call it.
        summary: One line, with the bound on what it changes.
        function: ``module:function``, a ``Model -> Model``.
        default: On unless switched off.
    """

    name: str
    summary: str
    function: str
    default: bool = True


PASSES: tuple[Pass, ...] = ()
"""In the order they run."""


def check_names(switches: Mapping[str, bool]) -> None:
    """Refuse names that are no pass.

    Raises:
        AccelError: ``usage.pass``; near names are offered.
    """
    from difflib import get_close_matches

    from accel.errors import AccelError

    known = [p.name for p in PASSES]
    for name in switches:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"Did you mean {', '.join(near)}?" if near else f"The passes are: {', '.join(known) or 'none'}."
            raise AccelError(f"there is no preparation pass {name!r}", code="usage.pass", hints=[hint])


def pending(model: Model, switches: Mapping[str, bool]) -> list[Pass]:
    """The passes that are on and not yet applied, in order."""
    return [p for p in PASSES if switches.get(p.name, p.default) and p.name not in model.passes]


def prepare(model: Model, switches: Mapping[str, bool]) -> Model:
    """Apply the pending passes.

    Args:
        model: Parsed; passes in ``model.passes`` are not repeated.
        switches: On or off by name; the others as their default says.
    """
    from accel.progress import step

    check_names(switches)
    wanted = pending(model, switches)
    if not wanted:
        return model
    with step("prepare", len(wanted)) as progress:
        for one in wanted:
            module, _, function = one.function.partition(":")
            model = getattr(import_module(module), function)(model)
            if one.name not in model.passes:
                model = replace(model, passes=(*model.passes, one.name))
            progress.advance(note=one.name)
    return model

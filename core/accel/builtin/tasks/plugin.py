"""The embedded answer to ``accel_task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.task import Task


@hookimpl
def accel_task(name: str, options: dict[str, str]) -> Task | None:
    from accel.builtin.tasks import NAMES, make_task

    return make_task(name, options) if name in NAMES else None

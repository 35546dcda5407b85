"""Tasks: what a network's outputs mean, and how right they are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.task import Task

# Module and class by task name: imported when asked for.
_TASKS = {
    "centernet": ("centernet", "make"),
    "classification": ("classification", "Classification"),
    "segmentation": ("segmentation", "Segmentation"),
    "ssd": ("ssd", "make"),
    "yolov5": ("yolo", "make_v5"),
    "yolov8": ("yolo", "make_v8"),
}
NAMES = tuple(_TASKS)


def make_task(name: str, options: Mapping[str, str] | None = None) -> Task:
    """The embedded task called ``name``; its options are in docs/tasks.md.

    Raises:
        AccelError: ``usage.task`` for an unknown name or option.
    """
    if name not in _TASKS:
        raise AccelError(
            f"there is no task {name!r}", code="usage.task", hints=["Tasks that ship with accel: " + ", ".join(NAMES)]
        )
    module, made = _TASKS[name]
    factory = getattr(importlib.import_module(f"accel.builtin.tasks.{module}"), made)
    return cast("Task", factory(options or {}))

"""The embedded answer to ``accel_evaluate``: every runner, no float side (the driver passes that itself)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.dataset import Dataset
    from accel.options import EvaluateOptions
    from accel.report import Report
    from accel.runner import Runner
    from accel.task import Task


@hookimpl
def accel_evaluate(runner: Runner, dataset: Dataset, task: Task | None, options: EvaluateOptions) -> Report | None:
    from accel.builtin.evaluate.evaluator import evaluate

    return evaluate(runner, dataset, task, options)

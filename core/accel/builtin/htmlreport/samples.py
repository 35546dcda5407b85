"""Sample pictures for the report: what an artifact found, drawn by its task."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from accel.builtin.evaluate.measuring import run_samples
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.dataset import Dataset
    from accel.runner import Runner
    from accel.task import Task

SHOWN = 4


def draw_samples(runner: Runner, dataset: Dataset, task: Task, folder: Path, count: int = SHOWN) -> list[Path]:
    """Run the first ``count`` samples and draw what the task makes of them, as PNG files in ``folder``.

    Returns:
        The pictures; none for data that are not pictures and tasks that draw nothing.
    """
    samples = list(itertools.islice(dataset, count))
    drawn = []
    try:
        for at, (sample, outputs) in enumerate(zip(samples, run_samples(runner, samples, None), strict=True)):
            path = folder / f"{at}-{Path(sample.name).stem}.png"
            task.draw(task.decode(outputs, sample), sample, path)
            drawn.append(path)
    except AccelError as error:
        if error.code != "unsupported.draw":
            raise
    return drawn

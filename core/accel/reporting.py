"""The HTML page about a recipe's run: what the stages left, put together."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel import deployment as work
from accel import driver
from accel.errors import AccelError, stage
from accel.files import atomic_file
from accel.progress import step

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.cache import Cache
    from accel.calibration import Calibration
    from accel.deployment import Deployment
    from accel.model import Model
    from accel.report import Report

PICTURES = 4
"""Samples shown with their results drawn in."""


def write_html(
    plan: Deployment,
    model: Model,
    artifacts: Sequence[Artifact],
    reports: Sequence[Report],
    path: Path,
    commands: Sequence[str] = (),
    cache: Cache | None = None,
) -> None:
    """Write the page of a recipe's run.

    Args:
        plan: The recipe.
        model: Parsed.
        artifacts: What was built.
        reports: Of their evaluation; performance reports are added where a plugin has them.
        path: The file, written by rename.
        commands: That made it all.
        cache: Where the calibration is found again.

    Raises:
        AccelError: ``usage.extra`` without jinja2.
    """
    from accel.builtin.htmlreport import render

    with step("report"), stage("report"), tempfile.TemporaryDirectory() as folder:
        page = render(
            [*reports, *_performance(artifacts)],
            [a.manifest for a in artifacts],
            _pictures(plan, artifacts, Path(folder)),
            title=f"{model.name}: {', '.join(dict.fromkeys(a.manifest.target for a in artifacts))}",
            calibrations=_calibrations(plan, model, artifacts, cache),
            commands=commands,
        )
        with atomic_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def _performance(artifacts: Sequence[Artifact]) -> Iterator[Report]:
    for artifact in artifacts:
        try:
            report = driver.perf(artifact)
        except AccelError as error:
            if error.code.startswith("unsupported"):
                continue
            raise
        m = artifact.manifest
        subject = {"target": m.target, "precision": m.precision, "backend": m.backend}
        yield replace(report, subject={**subject, **report.subject})


def _calibrations(
    plan: Deployment, model: Model, artifacts: Sequence[Artifact], cache: Cache | None
) -> Sequence[Calibration]:
    if not any(a.manifest.calibration_digest for a in artifacts):
        return ()
    held = work.load_calibration(plan.calibration_file)
    if held is not None:
        return (held,)
    return work.measure(plan, model, cache) if plan.calibration_data.source else ()


def _pictures(plan: Deployment, artifacts: Sequence[Artifact], folder: Path) -> list[Path]:
    """Results of the first artifact drawn into the first samples, where the task draws."""
    from accel.builtin.htmlreport import draw_samples

    data = work.dataset(plan, plan.evaluation_data, artifacts[0]) if artifacts else None
    if data is None or not plan.task:
        return []
    task = driver.make_task(plan.task, plan.task_options, artifacts[0])
    with driver.run(artifacts[0], plan.run) as runner:
        return draw_samples(runner, data, task, folder, PICTURES)

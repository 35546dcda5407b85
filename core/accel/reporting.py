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
from accel.options import RunOptions
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
    variants: Sequence[str] = (),
) -> None:
    """Write the page of a recipe's run.

    Args:
        plan: The recipe.
        model: Parsed.
        artifacts: What was built.
        reports: Of their evaluation and performance.
        path: The file, written by rename.
        commands: That made it all.
        cache: Where the calibration is found again.
        variants: Of the artifacts.

    Raises:
        AccelError: ``usage.extra`` without jinja2.
    """
    from accel.builtin.htmlreport import render

    with step("report"), stage("report"), tempfile.TemporaryDirectory() as folder:
        shown = _shown(artifacts)
        page = render(
            reports,
            [a.manifest for a in artifacts],
            _pictures(plan, shown, Path(folder)),
            title=f"{model.name}: {', '.join(dict.fromkeys(a.manifest.target for a in artifacts))}",
            calibrations=_calibrations(plan, model, artifacts, cache),
            commands=commands,
            variants=variants,
            drawn_by=shown.path.name if shown is not None else "",
        )
        with atomic_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def performance(artifacts: Sequence[Artifact], variants: Sequence[str]) -> Iterator[Report]:
    """Speed of every artifact at every batch it was built for, where a plugin has figures."""
    for artifact, variant in zip(artifacts, variants, strict=True):
        manifest = artifact.manifest
        subject = {"target": manifest.target, "precision": manifest.precision, "backend": manifest.backend}
        for batch in manifest.batches:
            try:
                report = driver.perf(artifact, RunOptions(batch=batch))
            except AccelError as error:
                if error.code.startswith("unsupported"):
                    continue
                raise
            metrics = tuple(replace(m, name=m.name.removesuffix(f" b{batch}")) for m in report.metrics)
            if variant:
                subject["variant"] = variant
            yield replace(report, metrics=metrics, subject={**subject, **report.subject, "batch": str(batch)})


def _calibrations(
    plan: Deployment, model: Model, artifacts: Sequence[Artifact], cache: Cache | None
) -> Sequence[Calibration]:
    if not any(a.manifest.calibration_digest for a in artifacts):
        return ()
    held = work.load_calibration(plan.calibration_file)
    if held is not None:
        return (held,)
    return work.measure(plan, model, cache) if plan.calibration_data.source else ()


def _shown(artifacts: Sequence[Artifact]) -> Artifact | None:
    """Whose results are drawn: the first quantised artifact's, where something can be wrong."""
    quantised = (a for a in artifacts if a.manifest.calibration_digest)
    return next(quantised, artifacts[0] if artifacts else None)


def _pictures(plan: Deployment, artifact: Artifact | None, folder: Path) -> list[Path]:
    """Results of the artifact drawn into the first samples, where the task draws."""
    from accel.builtin.htmlreport import draw_samples

    data = work.dataset(plan, plan.evaluation_data, artifact) if artifact is not None else None
    if artifact is None or data is None or not plan.task:
        return []
    task = driver.make_task(plan.task, plan.task_options, artifact)
    with driver.run(artifact, plan.run) as runner:
        return draw_samples(runner, data, task, folder, PICTURES)

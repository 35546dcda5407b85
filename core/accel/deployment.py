"""One deployment: a network, its data and its targets; what a recipe or the flags of ``compile`` say."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import driver
from accel.artifacts import MANIFEST
from accel.cache import NoCache, code_state, key_of
from accel.errors import AccelError, stage
from accel.jobs import Built, calibration_missing, needs_calibration
from accel.options import BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel.progress import about, message

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.cache import Cache
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.jobs import Job
    from accel.model import Model
    from accel.report import Report


@dataclass(frozen=True)
class Request:
    """One target with its precisions and options; ``variant`` tells it from others of the same chip."""

    target: str
    precisions: tuple[str, ...] = ("",)
    options: BuildOptions = field(default_factory=BuildOptions)
    variant: str = ""


@dataclass(frozen=True)
class Data:
    """Samples by path, and the reader's options."""

    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """Least (or largest) values that evaluation must reach, by metric name."""

    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """Everything between a network's file and its report.

    ``every_batch``: evaluate at each batch that was built, not at the first alone.
    """

    source: str
    output: Path
    requests: tuple[Request, ...] = ()
    parse: ParseOptions = field(default_factory=ParseOptions)
    calibrate: CalibrateOptions = field(default_factory=CalibrateOptions)
    preprocessing: Preprocessing | None = None
    calibration_data: Data = field(default_factory=Data)
    calibration_file: Path | None = None
    evaluation_data: Data = field(default_factory=Data)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    run: RunOptions = field(default_factory=RunOptions)
    every_batch: bool = False
    task: str = ""
    task_options: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    bars: Bars = field(default_factory=Bars)
    report: Path | None = None


def parse(deployment: Deployment, cache: Cache | None = None) -> Model:
    """The parse stage of a deployment."""
    return driver.parse(deployment.source, deployment.parse, cache=cache)


def jobs(deployment: Deployment, data: Dataset | None) -> list[Job]:
    """Every request at every precision."""
    return [
        driver.plan(
            request.target,
            replace(
                request.options,
                precision=precision,
                preprocessing=request.options.preprocessing or deployment.preprocessing,
                labels=request.options.labels or deployment.labels,
                dataset=data if request.options.calibrator == "vendor" else None,
            ),
            deployment.output,
            request.variant,
        )
        for request in deployment.requests
        for precision in request.precisions
    ]


def preflight(deployment: Deployment) -> None:
    """What can be known to fail before the network is read: targets, precisions, options, missing data.

    Raises:
        AccelError: as :func:`accel.driver.plan`; ``usage.calibration``; ``data.unreadable``.
    """
    if deployment.calibration_data.source:
        driver.require_data(deployment.calibration_data.source)
    given = deployment.calibration_data.source or deployment.calibration_file is not None
    for job in jobs(deployment, None):
        if needs_calibration(job) and not given:
            raise calibration_missing(job)


def measure(deployment: Deployment, model: Model, cache: Cache | None = None) -> list[Calibration]:
    """The calibrate stage alone: one measurement for each distinct set of preparation passes."""
    data = dataset(deployment, deployment.calibration_data, model)
    if data is None:
        raise AccelError("there is no data to calibrate on", code="usage.data", stage="calibrate")
    found: dict[str, Model] = {}
    for job in jobs(deployment, data):
        prepared = driver.prepare(model, job.options.passes, cache=cache)
        found.setdefault(prepared.digest, prepared)
    return [driver.measure(m, data, deployment.calibrate, cache=cache) for m in found.values()]


def build(
    deployment: Deployment, model: Model, cache: Cache | None = None, *, calibrate_cache: Cache | None = None
) -> list[Built]:
    """Calibrate once and build every request at every precision."""
    data = dataset(deployment, deployment.calibration_data, model)
    return driver.build_jobs(
        model,
        jobs(deployment, data),
        data,
        load_calibration(deployment.calibration_file),
        deployment.calibrate,
        cache,
        calibrate_cache=calibrate_cache,
    )


def load_calibration(path: Path | None) -> Calibration | None:
    """The statistics in a file.

    Raises:
        AccelError: ``calibration.unreadable``.
    """
    if path is None:
        return None
    from accel.calibration import Calibration

    return Calibration.load(path)


def dataset(deployment: Deployment, data: Data, model: Model | Artifact) -> Dataset | None:
    """Open the samples, or None when none are named."""
    if not data.source:
        return None
    return driver.open_dataset(data.source, model, deployment.preprocessing, data.options)


def evaluate(deployment: Deployment, artifact: Artifact, model: Model | None) -> Report:
    """Run one artifact over the evaluation data, against the float model if there is one."""
    data = dataset(deployment, deployment.evaluation_data, artifact)
    if data is None:
        raise AccelError(
            "there is no data to evaluate on", code="usage.data", stage="evaluate", hints=["Give samples: --data"]
        )
    options = dict(deployment.task_options)
    if deployment.task and deployment.evaluate.topk != 5:
        options.setdefault("topk", str(deployment.evaluate.topk))
    task = driver.make_task(deployment.task, options, artifact) if deployment.task else None
    at = f" at batch {deployment.run.batch}" if deployment.run.batch else ""
    with contextlib.ExitStack() as opened, about(f"{artifact.path.name}{at}"):
        against = None
        if model is not None:
            against = opened.enter_context(driver.run_float(model, preprocessing=artifact.manifest.preprocessing))
        stages = deployment.evaluate.stages
        runners = {
            name: opened.enter_context(driver.run(artifact, replace(deployment.run, simulator=name))) for name in stages
        }
        if stages:
            report = driver.evaluate_stages(runners, data, task, deployment.evaluate, against=against)
        else:
            runner = opened.enter_context(driver.run(artifact, deployment.run))
            report = driver.evaluate(runner, data, task, deployment.evaluate, against=against)
    manifest = artifact.manifest
    subject = {
        "target": manifest.target,
        "precision": manifest.precision,
        "backend": manifest.backend,
        "artifact": str(artifact.path),
    }
    if deployment.run.batch is not None:
        subject["batch"] = str(deployment.run.batch)
    return replace(report, subject={**subject, **report.subject})


def evaluate_cached(deployment: Deployment, artifact: Artifact, model: Model | None, cache: Cache) -> Report:
    """:func:`evaluate`, unless the same artifact was evaluated on the same data in the same way before."""
    import msgspec

    from accel.files import sha256_file, workspace_beside
    from accel.report import Report

    data = dataset(deployment, deployment.evaluation_data, artifact)
    key = key_of(
        {
            "artifact": [artifact.manifest, sha256_file(artifact.path / MANIFEST)],
            "data": [data.digest if data is not None else "", deployment.evaluation_data.options],
            "model": model.digest if model is not None else "",
            "how": [deployment.evaluate, deployment.run, deployment.task, deployment.task_options],
            "code": [code_state("accel"), code_state(f"accel_{artifact.manifest.vendor}")],
        }
    )
    held = cache.get("evaluate", key)
    if held is not None:
        with contextlib.suppress(msgspec.MsgspecError, OSError):
            kept = msgspec.json.decode((held / "report.json").read_bytes(), type=Report)
            at = f" at batch {deployment.run.batch}" if deployment.run.batch else ""
            message(f"{artifact.path.name}{at}: evaluated before, unchanged")
            return replace(kept, subject={**kept.subject, "artifact": str(artifact.path)})
    report = evaluate(deployment, artifact, model)
    if isinstance(cache, NoCache):
        return report
    with stage("evaluate"), workspace_beside(cache.root / "report") as work:
        (work / "report.json").write_bytes(msgspec.json.encode(report, enc_hook=_number))
        cache.put("evaluate", key, work, f"{artifact.manifest.name} on {artifact.manifest.target}")
    return report


def _number(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy scalars
        return value.tolist()
    return str(value)


def below(reports: Sequence[Report], bars: Bars) -> list[str]:
    """One line for every metric that misses its bar; a metric that was not measured misses it too."""
    missed = []
    for report in reports:
        who = " ".join(filter(None, (report.subject.get(k, "") for k in ("target", "precision", "variant"))))
        who += f" batch {report.subject['batch']}" if "batch" in report.subject else ""
        for limits, word in ((bars.least, "at least"), (bars.most, "at most")):
            for name, bar in limits.items():
                value = next((m.value for m in report.metrics if m.name == name), None)
                good = value is not None and (value >= bar if limits is bars.least else value <= bar)
                if not good:
                    shown = "not measured" if value is None else f"{value:.6g}"
                    missed.append(f"{who}: {name} is {shown}, asked {word} {bar:g}")
    return missed


def require(reports: Sequence[Report], bars: Bars) -> AccelError | None:
    """The error for missed bars, or None."""
    missed = below(reports, bars)
    if not missed:
        return None
    return AccelError(
        "accuracy is below the asked bar", code="accuracy.below", stage="evaluate", cause="; ".join(missed)
    )

"""The stages as functions: resolve the target, ask the hooks, keep what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel.artifact import Artifact
from accel.asking import known_hints, load_vendor_of, open_artifact, resolve
from accel.errors import AccelError, stage
from accel.jobs import (
    Built,
    Job,
    calibration_missing,
    check_node_names,
    name_output,
    needs_calibration,
    preflight,
    refuse_clashes,
)
from accel.looking import check, combine, commands, inspect, inspect_artifact, perf
from accel.opening import make_task, open_dataset, require_data
from accel.options import BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions, RunOptions
from accel.plugins import hooks
from accel.target import Target

if TYPE_CHECKING:
    from accel.cache import Cache
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.preprocessing import Preprocessing
    from accel.report import Report
    from accel.runner import Runner
    from accel.task import Task

__all__ = [
    "build",
    "build_all",
    "build_jobs",
    "calibrate",
    "check",
    "combine",
    "commands",
    "compile",
    "evaluate",
    "evaluate_stages",
    "inspect",
    "inspect_artifact",
    "make_task",
    "measure",
    "open_artifact",
    "open_dataset",
    "parse",
    "perf",
    "plan",
    "prepare",
    "require_data",
    "resolve",
    "run",
    "run_float",
]


def parse(source: str | Path, options: ParseOptions | None = None, *, cache: Cache | None = None) -> Model:
    """Read a network into a checked, shape-inferred, simplified :class:`~accel.model.Model`.

    Raises:
        AccelError: ``usage.*`` for a path or option that is wrong, ``model.*`` for a broken file.
    """
    from accel import parsing

    with stage("parse"):
        return parsing.parse(Path(source), options or ParseOptions(), cache)


def prepare(model: Model, passes: Mapping[str, bool] | None = None, *, cache: Cache | None = None) -> Model:
    """Run the preparation passes between parse and calibrate; those already applied are not repeated.

    Raises:
        AccelError: ``usage.pass`` for a pass that does not exist.
    """
    from accel import parsing

    with stage("prepare"):
        return parsing.prepare(model, passes or {}, cache)


def calibrate(
    model: Model,
    dataset: Dataset,
    options: CalibrateOptions | None = None,
    *,
    target: str | Target | None = None,
    passes: Mapping[str, bool] | None = None,
    cache: Cache | None = None,
) -> Calibration:
    """Measure every activation of the prepared ``model`` once, for all targets.

    Args:
        model: Parsed; prepared here if it is not yet.
        dataset: The samples.
        options: How many samples, batch, resume file.
        target: Only for vendors that measure other statistics than the embedded histogram.
        passes: Preparation passes switched on or off, as for :func:`build`.
        cache: Where a calibration of the same model and data is found again; None: nowhere.
    """
    return measure(prepare(model, passes, cache=cache), dataset, options, target=target, cache=cache)


def measure(
    prepared: Model,
    dataset: Dataset,
    options: CalibrateOptions | None = None,
    *,
    target: str | Target | None = None,
    cache: Cache | None = None,
) -> Calibration:
    """:func:`calibrate` for a model that :func:`prepare` gave: no further pass is applied."""
    from accel import calibrating

    resolved = resolve(target) if target is not None else None
    with stage("calibrate", hints=known_hints):
        return calibrating.calibrate(prepared, dataset, options or CalibrateOptions(), resolved, cache)


def build(
    model: Model,
    target: str | Target,
    output: str | Path,
    options: BuildOptions | None = None,
    *,
    calibration: Calibration | None = None,
    cache: Cache | None = None,
) -> Artifact:
    """Compile ``model`` for one target into the directory ``output``.

    Args:
        model: Parsed; prepared here if it is not yet.
        target: Its name, alias or the object.
        output: The artifact's directory. It appears whole; an artifact that is there is replaced.
        options: Precision, backend, method, batches ...
        calibration: Needed by quantised precisions; must be of this prepared model.
        cache: Where results are looked up and kept; None: nowhere.

    Raises:
        AccelError: ``calibration.missing`` / ``calibration.mismatch``, ``unsupported.*``,
            ``toolchain.missing`` with ``backend="vendor"``, ``usage.output`` when ``output`` is
            something else than an artifact.
    """
    from accel import building

    job = Job(resolve(target), options or BuildOptions(), Path(output))
    model = prepare(model, job.options.passes, cache=cache)
    with stage("build", hints=known_hints):
        return building.build(model, job, calibration, cache).artifact


def run(artifact: Artifact | str | Path, options: RunOptions | None = None) -> Runner:
    """Open an artifact for inference. The runner is a context manager.

    Raises:
        AccelError: ``failed.plugin`` when the package that made the artifact is not installed or broken.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    load_vendor_of(opened)
    with stage("run", hints=known_hints):
        runner: Runner | None = hooks().accel_run(artifact=opened, options=options or RunOptions())
        if runner is None:
            raise _no_owner(opened, "run")
        return runner


def run_float(model: Model, options: RunOptions | None = None, *, preprocessing: Preprocessing | None = None) -> Runner:
    """Open a model in float: what artifacts are compared with.

    Args:
        preprocessing: Of the artifact. Where it is folded into that, the float model gets it inside too: both are fed
            the same pixels.
    """
    with stage("run"):
        from accel.builtin.evaluate.float_runner import FloatRunner

        if preprocessing is not None and preprocessing.folded:
            from accel.builtin.reference.normalise import fold

            model = model.with_proto(fold(model.proto, preprocessing))
        return FloatRunner(model, threads=(options or RunOptions()).threads)


def evaluate(
    runner: Runner,
    dataset: Dataset,
    task: Task | None = None,
    options: EvaluateOptions | None = None,
    *,
    against: Runner | None = None,
) -> Report:
    """Measure how right a runner is over a data set.

    Args:
        runner: From :func:`run`.
        dataset: Samples, labelled if the task needs it.
        task: What the outputs mean; None: only the comparison with ``against``.
        options: Samples, layers, skip_bad ...
        against: The float model's runner; its outputs are compared sample by sample.
    """
    with stage("evaluate", hints=known_hints):
        asked = options or EvaluateOptions()
        if against is not None:
            from accel.builtin.evaluate.evaluator import evaluate as embedded

            return embedded(runner, dataset, task, asked, reference=against)
        report: Report | None = hooks().accel_evaluate(runner=runner, dataset=dataset, task=task, options=asked)
        if report is None:
            raise AccelError("nobody evaluates this runner", code="unsupported.evaluate")
        return report


def evaluate_stages(
    runners: Mapping[str, Runner],
    dataset: Dataset,
    task: Task | None = None,
    options: EvaluateOptions | None = None,
    *,
    against: Runner | None = None,
) -> Report:
    """Several runners of one network (the stages of its build) over the same data, side by side in one report."""
    from accel.builtin.evaluate import evaluator

    with stage("evaluate", hints=known_hints):
        reports = evaluator.evaluate_stages(runners, dataset, task, options, reference=against)
        return evaluator.side_by_side(dict(zip(runners, reports, strict=True)), title="stages")


def compile(
    source: str | Path,
    targets: Sequence[str | Target],
    output: str | Path,
    *,
    dataset: Dataset | None = None,
    calibration: Calibration | None = None,
    parse_options: ParseOptions | None = None,
    calibrate_options: CalibrateOptions | None = None,
    build_options: BuildOptions | None = None,
    cache: Cache | None = None,
) -> list[Artifact]:
    """Parse, prepare, calibrate once and build for every target, side by side.

    The artifacts stand in ``output`` as ``NAME-TARGET-PRECISION``, in the order of ``targets``.
    """
    options = build_options or BuildOptions()
    jobs = [plan(target, options, Path(output)) for target in targets]
    for job in jobs:
        if needs_calibration(job) and dataset is None and calibration is None:
            raise calibration_missing(job)
    model = parse(source, parse_options, cache=cache)
    return build_all(model, jobs, dataset, calibration, calibrate_options, cache)


def plan(target: str | Target, options: BuildOptions, folder: Path, variant: str = "") -> Job:
    """One build of :func:`build_all`; its output gets its name when the model is known."""

    with stage("build"):
        found = resolve(target)
        numerics = found.numerics_for(options.precision)
        job = Job(found, replace(options, precision=numerics.precision), folder, named=False, variant=variant)
        preflight(job)
        return job


def build_all(
    model: Model,
    jobs: Sequence[Job],
    dataset: Dataset | None = None,
    calibration: Calibration | None = None,
    calibrate_options: CalibrateOptions | None = None,
    cache: Cache | None = None,
) -> list[Artifact]:
    """:func:`build_jobs`, the artifacts alone."""
    return [b.artifact for b in build_jobs(model, jobs, dataset, calibration, calibrate_options, cache)]


def build_jobs(
    model: Model,
    jobs: Sequence[Job],
    dataset: Dataset | None = None,
    calibration: Calibration | None = None,
    calibrate_options: CalibrateOptions | None = None,
    cache: Cache | None = None,
    *,
    calibrate_cache: Cache | None = None,
) -> list[Built]:
    """Prepare and calibrate once, then build every job; the order is kept.

    ``calibrate_cache`` is where the calibration is looked up; None: in ``cache`` too.

    Raises:
        AccelError: ``usage.calibration`` when a job needs calibration and there is neither data nor a file.
    """
    from accel import building
    from accel.calibrating import require_match

    if not jobs:
        raise AccelError("no target was named", code="usage.target", hints=["Name one: --target bm1684"])
    with stage("build"):
        for job in jobs:
            preflight(job)
    prepared = {id(job): prepare(model, job.options.passes, cache=cache) for job in jobs}
    measured: dict[str, Calibration] = {}
    for job in jobs:
        network = prepared[id(job)]
        with stage("build"):
            check_node_names(job, network)
        if needs_calibration(job) and network.digest not in measured:
            if calibration is not None:
                with stage("calibrate"):
                    require_match(calibration, network, dataset)
                measured[network.digest] = calibration
            elif dataset is not None:
                measured[network.digest] = measure(
                    network, dataset, calibrate_options, cache=cache if calibrate_cache is None else calibrate_cache
                )
            else:
                raise calibration_missing(job)
    named = [name_output(job, prepared[id(job)]) for job in jobs]
    refuse_clashes(named)
    work = [
        (prepared[id(old)], job, measured.get(prepared[id(old)].digest)) for old, job in zip(jobs, named, strict=True)
    ]
    return building.build_side_by_side(work, cache, lambda: stage("build", hints=known_hints))


def _no_owner(artifact: Artifact, what: str) -> AccelError:
    kind = artifact.manifest.payload
    return AccelError(
        f"no installed plugin can {what} a {kind!r} artifact",
        code="failed.plugin",
        cause=f"it was built for {artifact.manifest.target} by the plugin {artifact.manifest.vendor!r}",
        hints=[f"pip install accel-{artifact.manifest.vendor}"],
    )

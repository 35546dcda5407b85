"""The stages as functions: resolve the target, ask the hooks, keep what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.artifact import Artifact
from accel.errors import AccelError, ErrorHint, stage
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
from accel.options import BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions, RunOptions
from accel.plugins import hooks, registry
from accel.progress import step
from accel.target import Target

if TYPE_CHECKING:
    from accel.cache import Cache
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.preprocessing import Preprocessing
    from accel.report import NodeSupport, Report
    from accel.runner import Runner
    from accel.task import Task


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
    with stage("calibrate", hints=_hints):
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
    with stage("build", hints=_hints):
        return building.build(model, job, calibration, cache).artifact


def open_artifact(path: str | Path) -> Artifact:
    """Read and verify an artifact directory; see :func:`accel.artifacts.read_artifact`."""
    from accel.artifacts import read_artifact

    with stage("open"):
        return read_artifact(path)


def run(artifact: Artifact | str | Path, options: RunOptions | None = None) -> Runner:
    """Open an artifact for inference. The runner is a context manager.

    Raises:
        AccelError: ``failed.plugin`` when the package that made the artifact is not installed or broken.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    _load_vendor_of(opened)
    with stage("run", hints=_hints):
        runner: Runner | None = hooks().accel_run(artifact=opened, options=options or RunOptions())
        if runner is None:
            raise _no_owner(opened, "run")
        return runner


def run_float(model: Model, options: RunOptions | None = None) -> Runner:
    """Open a model in float: what artifacts are compared with."""
    with stage("run"):
        from accel.builtin.evaluate.float_runner import FloatRunner

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
    with stage("evaluate", hints=_hints):
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

    with stage("evaluate", hints=_hints):
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
    model = parse(source, parse_options, cache=cache)
    return build_all(model, jobs, dataset, calibration, calibrate_options, cache)


def plan(target: str | Target, options: BuildOptions, folder: Path) -> Job:
    """One build of :func:`build_all`; its output gets its name when the model is known."""

    with stage("build"):
        found = resolve(target)
        numerics = found.numerics_for(options.precision)
        job = Job(found, replace(options, precision=numerics.precision), folder, named=False)
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
    return building.build_side_by_side(work, cache, lambda: stage("build", hints=_hints))


def resolve(target: str | Target) -> Target:
    """The target called so, with its vendor's plugin loaded.

    Raises:
        AccelError: ``usage.target`` with near names; ``failed.plugin``.
    """
    if isinstance(target, str):
        return registry().target(target)
    registry().load_vendor(target.vendor)
    return target


def open_dataset(
    source: str | Path,
    model: Model | Artifact,
    preprocessing: Preprocessing | None = None,
    options: Mapping[str, str] | None = None,
) -> Dataset:
    """Open samples by path (folder, list file, npz ...) or ``kind:path``, shaped for the model's inputs.

    Args:
        source: Where they are.
        model: Gives the inputs; of an artifact also the preprocessing, unless one is given.
        preprocessing: How pictures become inputs.
        options: The reader's own: ``samples``, ``skip_bad``, ``labels``, ``root`` ...

    Raises:
        AccelError: ``usage.data`` when nobody knows how to read ``source``; ``data.*`` when it is broken.
    """
    with stage("data"):
        if isinstance(model, Artifact):
            preprocessing = preprocessing or model.manifest.preprocessing
            model = _stand_in(model)
        found: Dataset | None = hooks().accel_dataset(
            source=str(source), model=model, preprocessing=preprocessing, options=dict(options or {})
        )
        if found is None:
            there = Path(source).exists()
            raise AccelError(
                f"cannot read the data {str(source)!r}",
                code="usage.data",
                cause="no data set reader knows its form" if there else "there is no such file or folder",
                hints=["Give a folder of pictures, a list file, an .npz, or KIND:PATH."],
            )
        return found


def make_task(name: str, options: Mapping[str, str] | None = None, artifact: Artifact | None = None) -> Task:
    """The task called ``name`` (``classification`` ...).

    With an ``artifact`` the task takes over what its manifest says and the options do not: class names, and the
    parameters of a detection head that was cut off.

    Raises:
        AccelError: ``usage.task`` when no plugin brings it.
    """
    with stage("evaluate"):
        task: Task | None = hooks().accel_task(name=name, options=dict(options or {}))
        if task is None:
            raise AccelError(f"there is no task {name!r}", code="usage.task", hints=["classification is built in."])
        if artifact is not None:
            _introduce(task, artifact)
        return task


def _introduce(task: Any, artifact: Artifact) -> None:
    """Tell a task what the manifest knows."""
    if artifact.manifest.labels and getattr(task, "labels", None) == ():
        task.labels = artifact.manifest.labels
    metadata = artifact.manifest.details.get("metadata")
    if isinstance(metadata, Mapping) and hasattr(task, "adopt"):
        task.adopt(metadata)


def check(model: Model, target: str | Target, options: BuildOptions | None = None) -> Sequence[NodeSupport]:
    """Whether, where and why not ``target`` runs each node, before a long build."""
    found, asked = resolve(target), options or BuildOptions()
    model = prepare(model, asked.passes)
    with stage("check", hints=_hints):
        found.numerics_for(asked.precision)
        nodes: Sequence[NodeSupport] | None = hooks().accel_check(model=model, target=found, options=asked)
        if nodes is None:
            raise AccelError(f"nobody checks models for {found.name}", code="unsupported.check")
        return nodes


def perf(artifact: Artifact | str | Path, options: RunOptions | None = None) -> Report:
    """Speed and memory of an artifact: measured, simulated or predicted, and labelled so."""
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    _load_vendor_of(opened)
    with stage("perf", hints=_hints):
        report: Report | None = hooks().accel_perf(artifact=opened, options=options or RunOptions())
        if report is None:
            raise AccelError(
                f"nobody has performance figures for {opened.path}",
                code="unsupported.perf",
                cause=f"it is a {opened.manifest.payload} artifact of {opened.manifest.target}",
                hints=["Build it with the vendor's compiler: --backend vendor"],
            )
        return report


def inspect(path: str | Path) -> Report:
    """Describe an artifact's payload or a vendor's file."""
    place = Path(path)
    if not place.exists():
        raise AccelError(f"there is no file {place}", code="usage.missing-file", stage="inspect")
    with stage("inspect", hints=_hints):
        report: Report | None = hooks(every_vendor=True).accel_inspect(path=place)
        if report is None:
            raise AccelError(
                f"no installed plugin reads {place}",
                code="usage.file-kind",
                hints=["Give an artifact's folder, an ONNX file, or a vendor's compiled file."],
            )
        return report


def inspect_artifact(artifact: Artifact) -> Report | None:
    """What the plugins know of an artifact's payload beyond its manifest; None when nobody does."""
    _load_vendor_of(artifact)
    with stage("inspect", hints=_hints):
        report: Report | None = hooks().accel_inspect(path=artifact.path)
        return report


def combine(artifacts: Sequence[Artifact | str | Path], output: str | Path) -> Artifact:
    """Put several artifacts of one target into one (batch sizes of one network)."""
    from accel import building

    opened = [a if isinstance(a, Artifact) else open_artifact(a) for a in artifacts]
    with stage("combine", hints=_hints):
        if len(opened) < 2:
            raise AccelError("combine needs at least two artifacts", code="usage.combine")
        if len({(a.manifest.target, a.manifest.payload) for a in opened}) > 1:
            raise AccelError(
                "the artifacts are not of one target and form",
                code="usage.combine",
                cause=", ".join(f"{a.path.name}: {a.manifest.target} {a.manifest.payload}" for a in opened),
            )
        _load_vendor_of(opened[0])

        def work(workspace: Path) -> Artifact:
            made: Artifact | None = hooks().accel_combine(artifacts=opened, workspace=workspace)
            if made is None:
                raise AccelError(
                    f"{opened[0].manifest.payload} artifacts of {opened[0].manifest.target} cannot be combined",
                    code="unsupported.combine",
                )
            return made

        with step("combine"):
            return building.publish(work, Path(output))


def _stand_in(artifact: Artifact) -> Model:
    """What data sets need to know of a network: its inputs and outputs, no graph."""
    from accel.model import Model

    manifest = artifact.manifest
    nothing: Any = None
    return Model(nothing, manifest.name, manifest.inputs, manifest.outputs)


def _load_vendor_of(artifact: Artifact) -> None:
    # The reference's payload needs nobody; a vendor's needs its package.
    if artifact.manifest.backend == "vendor":
        registry().load_vendor(artifact.manifest.vendor)


def _no_owner(artifact: Artifact, what: str) -> AccelError:
    kind = artifact.manifest.payload
    return AccelError(
        f"no installed plugin can {what} a {kind!r} artifact",
        code="failed.plugin",
        cause=f"it was built for {artifact.manifest.target} by the plugin {artifact.manifest.vendor!r}",
        hints=[f"pip install accel-{artifact.manifest.vendor}"],
    )


def _hints() -> list[ErrorHint]:
    return [hint for group in hooks().accel_error_hints() for hint in group]

"""Build: look in the cache, ask the hooks in a workspace, complete the manifest, publish by rename."""

from __future__ import annotations

import contextvars
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.artifact import Artifact, Manifest
from accel.artifacts import MANIFEST, read_artifact, write_manifest
from accel.cache import Cache, NoCache, code_state, key_of
from accel.calibrating import require_match
from accel.errors import AccelError
from accel.files import publish_directory, workspace_beside
from accel.options import BuildOptions
from accel.plugins import PLUGINS, hooks, registry, versions
from accel.progress import message, step
from accel.target import Numerics, Target

if TYPE_CHECKING:
    from accel.calibration import Calibration
    from accel.model import Model
    from accel.toolchain.spec import Environment, Toolchain


@dataclass(frozen=True)
class Job:
    """One build of several: what for, how, where to.

    ``output`` is the artifact's directory when ``named``, else the folder it gets its name in.
    """

    target: Target
    options: BuildOptions
    output: Path
    named: bool = True

    @property
    def numerics(self) -> Numerics:
        return self.target.numerics_for(self.options.precision)


@dataclass(frozen=True)
class Built:
    """What one job gave, and what it cost.

    Attributes:
        artifact: In its place.
        seconds: Wall time of the build stage, without parse and calibrate.
        cached: It was found, not built.
    """

    artifact: Artifact
    seconds: float
    cached: bool


def name_output(job: Job, model: Model) -> Job:
    """The job with its final directory: ``FOLDER/MODEL-TARGET-PRECISION``."""
    if job.named:
        return job
    name = f"{model.name}-{job.target.name}-{job.numerics.precision}"
    return replace(job, output=job.output / name, named=True)


def refuse_clashes(jobs: Sequence[Job]) -> None:
    """Two jobs must not write one directory, and none may replace something that is no artifact."""
    seen: set[Path] = set()
    for job in jobs:
        if job.output in seen:
            raise AccelError(
                f"{job.output} would be built twice", code="usage.output", hints=["Name each target once."]
            )
        seen.add(job.output)
        refuse_foreign(job.output)


def refuse_foreign(output: Path) -> None:
    """Never replace a folder that is not an artifact.

    Raises:
        AccelError: ``usage.output``.
    """
    if (output.exists() or output.is_symlink()) and not (output / MANIFEST).is_file():
        if output.is_dir() and not output.is_symlink() and not any(output.iterdir()):
            return
        raise AccelError(
            f"{output} exists and is no artifact; it is left alone",
            code="usage.output",
            hints=["Choose another folder with -o."],
        )


def preflight(job: Job) -> None:
    """Everything about a job that can be wrong before any long work is done.

    Raises:
        AccelError: ``unsupported.*``, ``usage.*``, ``toolchain.*``.
    """
    for precision in (job.options.precision, *job.options.node_precisions.values()):
        job.target.numerics_for(precision)
    _check_options(job)
    if job.options.backend != "vendor":
        return
    toolchain = _toolchain(job.target)
    if toolchain is None:
        raise AccelError(
            f"there is no vendor compiler for {job.target.name}",
            code="unsupported.backend",
            hints=["Use --backend reference."],
        )
    from accel.toolchain.find import require

    require(toolchain)


def check_node_names(job: Job, *models: Model) -> None:
    """Per-node precisions must name nodes of the network, as it was read or as it was prepared.

    Raises:
        AccelError: ``usage.node`` with near names.
    """
    if not job.options.node_precisions:
        return
    known = {node.name for model in models for node in model.proto.graph.node}
    for name in job.options.node_precisions:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=2)
            raise AccelError(
                f"the network has no node {name!r}",
                code="usage.node",
                hints=[
                    f"Did you mean {' or '.join(near)}?" if near else "`accel check MODEL -t TARGET --all` lists them."
                ],
            )


def needs_calibration(job: Job) -> bool:
    """Whether our statistics must be there before this build."""
    quantised = job.numerics.quantized or any(
        job.target.numerics_for(p).quantized for p in job.options.node_precisions.values()
    )
    return quantised and not (job.options.calibrator == "vendor" and job.options.backend != "reference")


def calibration_missing(job: Job) -> AccelError:
    """What to say when statistics are needed and there are none."""
    return AccelError(
        f"{job.numerics.precision} on {job.target.name} needs calibration data",
        code="usage.calibration",
        stage="build",
        hints=["Give samples: --data FOLDER", "Or statistics measured before: --calibration FILE"],
    )


def build(model: Model, job: Job, calibration: Calibration | None, cache: Cache | None) -> Built:
    """Build the prepared ``model``, or copy the same build out of the cache; publish it as ``job.output``."""
    started = time.monotonic()
    numerics = job.numerics  # unsupported precisions fail first
    job = replace(job, options=replace(job.options, precision=numerics.precision))
    refuse_foreign(job.output)
    preflight(job)
    check_node_names(job, model)
    if needs_calibration(job):
        if calibration is None:
            raise calibration_missing(job)
        require_match(calibration, model)
    else:
        calibration = None
    toolchain = _toolchain(job.target)
    environment = _environment(toolchain)
    label = f"{model.name} for {job.target.name} {numerics.precision}"
    key = _key(model, job, calibration, environment)
    store = cache or NoCache()
    with step(f"build {label}"), store.lock(key):
        held = store.get("build", key)
        if held is not None:
            message(f"{job.target.name}: unchanged, from the cache")
            found = publish(lambda work: _from_cache(held, work), job.output)
            return Built(found, time.monotonic() - started, cached=True)

        def work(workspace: Path) -> Artifact:
            made: Artifact | None = hooks(job.target).accel_build(
                model=model,
                target=job.target,
                options=job.options,
                calibration=calibration,
                workspace=workspace,
            )
            if made is None or (job.options.backend == "vendor" and made.manifest.backend == "reference"):
                raise _nobody(job, toolchain)
            made = _complete(made, model, job, calibration, toolchain, environment)
            store.put("build", key, made.path, label)
            return made

        fresh = publish(work, job.output)
        return Built(fresh, time.monotonic() - started, cached=False)


def build_side_by_side(
    work: Sequence[tuple[Model, Job, Calibration | None]],
    cache: Cache | None,
    guard: Callable[[], AbstractContextManager[None]],
) -> list[Built]:
    """Build all, as many at a time as there are cores; the first failure is raised after the others ended."""
    import os
    from concurrent.futures import ThreadPoolExecutor, wait

    def one(item: tuple[Model, Job, Calibration | None]) -> Built:
        with guard():
            return build(*item, cache)

    if len(work) == 1:
        return [one(work[0])]
    # Threads: a vendor's compiler is a process of its own, and the reference's time is spent in NumPy and ORT.
    pool = ThreadPoolExecutor(max_workers=min(len(work), os.cpu_count() or 1))
    try:
        futures = [pool.submit(contextvars.copy_context().run, one, item) for item in work]
        wait(futures)
    finally:
        # After Ctrl-C the running builds are not waited for: the command line kills and cleans up.
        pool.shutdown(wait=False, cancel_futures=True)
    failed: list[tuple[Job, AccelError]] = []
    for (_, job, _), future in zip(work, futures, strict=True):
        error = future.exception()
        if isinstance(error, AccelError):
            failed.append((job, error))
        elif error is not None:
            raise error
    if failed:
        job, error = failed[0]
        others = [f"{j.target.name} failed too: {e.summary}" for j, e in failed[1:]]
        done = [f"{f.result().artifact.path} is built." for f in futures if f.exception() is None]
        error.summary = error.summary if job.target.name in error.summary else f"{job.target.name}: {error.summary}"
        error.hints = (*error.hints, *others, *done)
        raise error
    return [f.result() for f in futures]


def publish(work: Callable[[Path], Artifact], output: Path) -> Artifact:
    """Let ``work`` make an artifact in a fresh workspace, then move it to ``output`` in one rename."""
    refuse_foreign(output)
    with workspace_beside(output) as workspace:
        made = work(workspace)
        publish_directory(made.path, output)
    return Artifact(output, made.manifest)


def _from_cache(held: Path, workspace: Path) -> Artifact:
    place = workspace / "artifact"
    shutil.copytree(held, place, ignore=shutil.ignore_patterns("entry.json"))
    return read_artifact(place, verify=False)  # the cache has just verified it


def _complete(
    made: Artifact,
    model: Model,
    job: Job,
    calibration: Calibration | None,
    toolchain: Toolchain | None,
    environment: Environment | None,
) -> Artifact:
    """Fill in what the driver knows better than a builder, and rewrite the manifest."""
    manifest = made.manifest
    known = {"accel-core": __version__, **versions(["onnx", "onnxruntime", "numpy"])}
    origin = next((o for o in registry().origins(PLUGINS) if o.name == job.target.vendor), None)
    if origin is not None:
        known[origin.package] = origin.version
    if environment is not None and manifest.backend == "vendor":
        known[f"toolchain {environment.toolchain}"] = environment.version
    notes = [*model.notes, *manifest.notes]
    if job.options.backend == "auto" and job.target.toolchain:
        took = _backend_note(manifest, job, toolchain)
        notes.append(took)
        message(f"{job.target.name}: {took}")
    manifest = replace(
        manifest,
        model_digest=model.digest,
        calibration_digest=_statistics_digest(calibration) or manifest.calibration_digest,
        preprocessing=manifest.preprocessing or job.options.preprocessing,
        labels=manifest.labels or job.options.labels,
        passes=manifest.passes or model.passes,
        versions={**known, **manifest.versions},
        options={**_asked(job.options), **manifest.options},
        notes=tuple(dict.fromkeys(notes)),
        details={**({"metadata": model.metadata} if model.metadata else {}), **manifest.details},
    )
    write_manifest(made.path, manifest)
    return Artifact(made.path, manifest)


def _backend_note(manifest: Manifest, job: Job, toolchain: Toolchain | None) -> str:
    name = job.target.toolchain
    if manifest.backend == "vendor":
        return f"built with the vendor's compiler ({name}); the embedded reference: --backend reference"
    if toolchain is not None and toolchain.kind == "system":
        return f"built with the embedded reference; the vendor's compiler needs its SDK on this machine ({name})"
    return f"built with the embedded reference; for the vendor's compiler: accel toolchain install {name}"


def _asked(options: BuildOptions) -> dict[str, str]:
    """The options that differ from their defaults, as strings for the manifest."""
    default, asked = BuildOptions(), {}
    for one in fields(options):
        value = getattr(options, one.name)
        if one.name in ("preprocessing", "labels") or value == getattr(default, one.name):
            continue
        asked[one.name] = _text(value)
    return asked


def _text(value: Any) -> str:
    if hasattr(value, "digest"):
        return str(value.digest)
    if isinstance(value, dict):
        return ",".join(f"{k}={_text(v)}" for k, v in sorted(value.items()))
    if isinstance(value, (tuple, frozenset)):
        return ",".join(str(v) for v in (sorted(value) if isinstance(value, frozenset) else value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _check_options(job: Job) -> None:
    """Vendor-only options by name and choice."""
    from difflib import get_close_matches

    target, known = job.target, {o.name: o for o in job.target.options}
    for name, value in job.options.set.items():
        spec = known.get(name)
        if spec is None:
            near = get_close_matches(name, known, n=1)
            have = ", ".join(known) or "none"
            raise AccelError(
                f"{target.name} has no option {name!r}",
                code="usage.set",
                hints=[f"Did you mean {near[0]}?" if near else f"Its options: {have}."],
            )
        if spec.choices and value not in spec.choices:
            raise AccelError(
                f"{name} of {target.name} cannot be {value!r}",
                code="usage.set",
                hints=[f"Choose one of: {', '.join(spec.choices)}."],
            )
    if job.options.cores is not None and job.options.cores not in target.cores:
        have = ", ".join(str(c) for c in target.cores)
        raise AccelError(
            f"{target.name} cannot build for {job.options.cores} cores",
            code="unsupported.cores",
            hints=[f"Choose one of: {have}."],
        )


def _toolchain(target: Target) -> Toolchain | None:
    if not target.toolchain:
        return None
    found = (t for group in hooks(target).accel_toolchains() for t in group)
    return next((t for t in found if t.name == target.toolchain), None)


def _environment(toolchain: Toolchain | None) -> Environment | None:
    if toolchain is None:
        return None
    from accel.toolchain.find import find

    return find(toolchain)


def _nobody(job: Job, toolchain: Toolchain | None) -> AccelError:
    if job.options.backend == "vendor" and toolchain is not None:
        from accel.toolchain.find import require

        require(toolchain)  # its error is the better one
    return AccelError(
        f"nobody builds {job.numerics.precision} for {job.target.name} with backend {job.options.backend}",
        code="unsupported.backend",
        hints=["Use --backend reference."],
    )


def _key(model: Model, job: Job, calibration: Calibration | None, environment: Environment | None) -> str:
    target = job.target
    origin = next((o for o in registry().origins(PLUGINS) if o.name == target.vendor), None)
    options: Any = {f.name: getattr(job.options, f.name) for f in fields(job.options) if f.name != "dataset"}
    vendor_data = job.options.dataset if job.options.calibrator == "vendor" else None
    return key_of(
        {
            "model": [model.digest, model.name, model.passes],
            "calibration": _statistics_digest(calibration),
            "target": target,
            "options": options,
            "data": vendor_data.digest if vendor_data is not None else "",
            "core": [__version__, code_state("accel"), versions(["onnx", "onnxruntime", "numpy"])],
            "plugin": [str(origin), code_state(origin.value.split(":")[0].split(".")[0])] if origin else [],
            "toolchain": [environment.toolchain, environment.version] if environment else [],
        }
    )


def _statistics_digest(calibration: Calibration | None) -> str:
    """Over the numbers themselves: two files of the same model and data may hold other statistics."""
    if calibration is None:
        return ""
    import hashlib

    digest = hashlib.sha256(repr((calibration.model_digest, calibration.data_digest, calibration.samples)).encode())
    for name, t in calibration.tensors.items():
        digest.update(repr((name, t.low, t.high, t.count, t.nonfinite, t.exponent)).encode())
        for array in (t.negative, t.positive, t.channel_low, t.channel_high):
            digest.update(b"-" if array is None else array.tobytes())
    return digest.hexdigest()

"""Build: look in the cache, ask the hooks in a workspace, complete the manifest, publish by rename."""

from __future__ import annotations

import contextvars
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.artifact import Artifact
from accel.artifacts import read_artifact
from accel.cache import Cache, NoCache, code_state, key_of
from accel.calibrating import require_match
from accel.errors import AccelError
from accel.files import publish_directory, workspace_beside
from accel.jobs import (
    Built,
    Job,
    calibration_missing,
    check_node_names,
    environment_of,
    needs_calibration,
    preflight,
    refuse_foreign,
    toolchain_of,
)
from accel.manifests import complete, statistics_digest
from accel.plugins import PLUGINS, hooks, registry
from accel.progress import message, step
from accel.versions import versions

if TYPE_CHECKING:
    from accel.calibration import Calibration
    from accel.model import Model
    from accel.toolchain.spec import Environment, Toolchain


def build(model: Model, job: Job, calibration: Calibration | None, cache: Cache | None) -> Built:
    """Build the prepared ``model``, or copy the same build out of the cache; publish it as ``job.output``."""
    started = time.monotonic()
    numerics = job.numerics  # unsupported precisions fail first
    job = replace(job, options=replace(job.options, precision=numerics.precision))
    refuse_foreign(job.output)
    preflight(job)
    _refuse_frontend(model, job)
    check_node_names(job, model)
    if needs_calibration(job):
        if calibration is None:
            raise calibration_missing(job)
        require_match(calibration, model)
    else:
        calibration = None
    toolchain = toolchain_of(job.target)
    environment = environment_of(toolchain)
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
            asked = job.options.backend == "vendor" or model.vendor_reads
            if made is None or (asked and made.manifest.backend == "reference"):
                raise _nobody(job, toolchain)
            made = complete(made, model, job, calibration, toolchain, environment)
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


def _nobody(job: Job, toolchain: Toolchain | None) -> AccelError:
    if job.options.backend != "reference" and toolchain is not None:
        from accel.toolchain.find import require

        require(toolchain)  # its error is the better one
    return AccelError(
        f"nobody builds {job.numerics.precision} for {job.target.name} with backend {job.options.backend}",
        code="unsupported.backend",
        hints=["Use --backend reference."],
    )


def _refuse_frontend(model: Model, job: Job) -> None:
    """A network that the vendor's compiler is to read itself, for a target where it does not."""
    if not model.vendor_reads:
        return
    kinds = {".prototxt": "caffe", ".caffemodel": "caffe"}
    kind = next((kinds[s.suffix] for s in model.sources if s.suffix in kinds), "")
    if job.options.backend == "reference" or kind not in job.target.vendor_frontends:
        who = "the embedded reference" if job.options.backend == "reference" else f"{job.target.name}'s compiler"
        raise AccelError(
            f"{who} does not read {kind or 'these'} files itself",
            code="unsupported.frontend",
            hints=["Leave --frontend vendor out: our importer reads the file."],
        )


def _key(model: Model, job: Job, calibration: Calibration | None, environment: Environment | None) -> str:
    target = job.target
    origin = next((o for o in registry().origins(PLUGINS) if o.name == target.vendor), None)
    options: Any = {f.name: getattr(job.options, f.name) for f in fields(job.options) if f.name != "dataset"}
    vendor_data = job.options.dataset if job.options.calibrator == "vendor" else None
    return key_of(
        {
            "model": [model.digest, model.name, model.passes],
            "calibration": statistics_digest(calibration),
            "target": target,
            "options": options,
            "data": vendor_data.digest if vendor_data is not None else "",
            "core": [__version__, code_state("accel"), versions(["onnx", "onnxruntime", "numpy"])],
            "plugin": [str(origin), code_state(origin.value.split(":")[0].split(".")[0])] if origin else [],
            "toolchain": [environment.toolchain, environment.version] if environment else [],
        }
    )

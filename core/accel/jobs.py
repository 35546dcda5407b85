"""Build jobs: what for, how and where to, and everything about them that can be wrong before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel.artifact import Artifact
from accel.artifacts import MANIFEST
from accel.errors import AccelError
from accel.options import BuildOptions
from accel.plugins import hooks
from accel.target import Numerics, Target

if TYPE_CHECKING:
    from accel.model import Model
    from accel.toolchain.spec import Environment, Toolchain


@dataclass(frozen=True)
class Job:
    """One build of several: what for, how, where to.

    ``output`` is the artifact's directory when ``named``, else the folder it gets its name in; ``variant`` ends that
    name where one chip is built for at one precision in several ways.
    """

    target: Target
    options: BuildOptions
    output: Path
    named: bool = True
    variant: str = ""

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
    """The job with its final directory: ``FOLDER/MODEL-TARGET-PRECISION[-VARIANT]``."""
    if job.named:
        return job
    parts = (model.name, job.target.name, job.numerics.precision, job.variant)
    name = "-".join(p for p in parts if p)
    return replace(job, output=job.output / name, named=True)


def refuse_clashes(jobs: Sequence[Job]) -> None:
    """Two jobs must not write one directory, and none may replace something that is no artifact."""
    seen: set[Path] = set()
    for job in jobs:
        if job.output in seen:
            raise AccelError(
                f"{job.output} would be built twice",
                code="usage.output",
                hints=["Name each target once, or give each a `variant` in the recipe."],
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
    if job.options.passes:
        from accel.builtin import prepare

        prepare.check_names(job.options.passes)
    if job.options.backend != "vendor":
        return
    toolchain = toolchain_of(job.target)
    if toolchain is None:
        raise AccelError(
            f"there is no vendor compiler for {job.target.name}",
            code="unsupported.backend",
            hints=["Use --backend reference."],
        )
    if toolchain.kind == "system":
        return  # its plugin may have work that needs no SDK (a script to run where the SDK is)
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


def toolchain_of(target: Target) -> Toolchain | None:
    if not target.toolchain:
        return None
    found = (t for group in hooks(target).accel_toolchains() for t in group)
    return next((t for t in found if t.name == target.toolchain), None)


def environment_of(toolchain: Toolchain | None) -> Environment | None:
    if toolchain is None:
        return None
    from accel.toolchain.find import find

    return find(toolchain)

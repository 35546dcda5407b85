"""The embedded reference as a plugin: answers last, for every target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.calibration import Calibration
    from accel.model import Model
    from accel.options import BuildOptions, RunOptions
    from accel.report import NodeSupport
    from accel.runner import Runner
    from accel.target import Target


@hookimpl
def accel_build(
    model: Model,
    target: Target,
    options: BuildOptions,
    calibration: Calibration | None,
    workspace: Path,
) -> Artifact | None:
    if options.backend == "vendor":
        return None
    from accel.builtin.reference.build import build

    return build(model, target, options, calibration, workspace)


@hookimpl
def accel_run(artifact: Artifact, options: RunOptions) -> Runner | None:
    if artifact.manifest.payload != "reference":
        return None
    from accel.builtin.reference.runner import ReferenceRunner

    return ReferenceRunner.open(artifact, options)


@hookimpl
def accel_check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
    from accel.builtin.reference.check import check

    return check(model, target, options)

"""The plugin that accel loads when one of its targets is used. Heavy modules are imported when a hook runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel import hookimpl

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.calibration import Calibration
    from accel.errors import ErrorHint
    from accel.model import Model
    from accel.options import BuildOptions, RunOptions
    from accel.report import NodeSupport, Report
    from accel.runner import Runner
    from accel.target import Target
    from accel.toolchain.spec import Toolchain


@hookimpl
def accel_toolchains() -> Sequence[Toolchain]:
    from accel_sophon.runtime import SOPHON_RUNTIME
    from accel_sophon.toolchain import SOPHON

    return [SOPHON, SOPHON_RUNTIME]


@hookimpl
def accel_build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact | None:
    if target.vendor != "sophon" or not target.toolchain or options.backend == "reference":
        return None
    from accel.toolchain.find import find

    from accel_sophon.toolchain import SOPHON

    if options.backend == "auto" and find(SOPHON) is None:
        return None
    from accel_sophon.build import build

    return build(model, target, options, calibration, workspace)


@hookimpl
def accel_commands(model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]] | None:
    if target.vendor != "sophon" or not target.toolchain or options.backend == "reference":
        return None
    from accel_sophon.showing import build_commands

    return build_commands(model, target, options)


@hookimpl
def accel_run(artifact: Artifact, options: RunOptions) -> Runner | None:
    if artifact.manifest.payload != "bmodel":
        return None
    from accel_sophon.host import chip_part, with_tail
    from accel_sophon.runner import SophonRunner

    runner = SophonRunner(chip_part(artifact), options)
    return with_tail(runner, artifact, runner.batch)


@hookimpl
def accel_check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
    if target.vendor != "sophon" or not target.toolchain or options.backend == "reference":
        return None
    from accel_sophon.check import check

    return check(model, target, options)


@hookimpl
def accel_perf(artifact: Artifact, options: RunOptions) -> Report | None:
    if artifact.manifest.payload != "bmodel":
        return None
    from accel_sophon import targets
    from accel_sophon.perf import perf

    return perf(artifact, options, getattr(targets, artifact.manifest.target.upper()))


@hookimpl
def accel_inspect(path: Path) -> Report | None:
    from accel_sophon.inspecting import bmodel_of, inspect

    found = bmodel_of(path)
    return inspect(found) if found else None


@hookimpl
def accel_combine(artifacts: Sequence[Artifact], workspace: Path) -> Artifact | None:
    if any(a.manifest.payload != "bmodel" for a in artifacts):
        return None
    from accel_sophon.combine import combine

    return combine(artifacts, workspace)


@hookimpl
def accel_error_hints() -> Sequence[ErrorHint]:
    from accel_sophon.hints import SPECIFIC

    return SPECIFIC

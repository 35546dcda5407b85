"""The plugin that accel loads when one of its targets is used. Hooks only; the work is in the modules they import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

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

VENDOR = "horizon"
PAYLOAD = "hbm"


@hookimpl
def accel_toolchains() -> Sequence[Toolchain]:
    """Horizon's compiler and simulator, and a board's own tools."""
    from accel_horizon.board import BOARD
    from accel_horizon.toolchain import HORIZON

    return [HORIZON, BOARD]


@hookimpl
def accel_build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact | None:
    """Build with hmct and hbdk-cc where they are installed."""
    if target.vendor != VENDOR or options.backend == "reference":
        return None
    from accel_horizon.build import build

    return build(model, target, options, calibration, workspace)


@hookimpl
def accel_commands(model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]] | None:
    """The one script of ours that drives hmct and hbdk-cc, and the flags that hbdk-cc gets from it."""
    if target.vendor != "horizon" or options.backend == "reference":
        return None
    from accel.toolchain.find import find

    from accel_horizon.toolchain import HORIZON
    from accel_horizon.wanted import wanted

    env = find(HORIZON)
    flags = wanted(model, target, options).flags.split()
    script = [str(env.python) if env else "python", "build_model.py", "job.json"]
    return [row for _ in options.batches for row in (script, ["hbdk-cc", "--march", target.arch, *flags])]


@hookimpl
def accel_run(artifact: Artifact, options: RunOptions) -> Runner | None:
    """Open one of the stages of a built model in the vendor's simulators."""
    if artifact.manifest.payload != PAYLOAD or artifact.manifest.vendor != VENDOR:
        return None
    from accel_horizon.runners import HorizonRunner

    return HorizonRunner(artifact, options)


@hookimpl
def accel_check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
    """Placement by hmct, where it is installed."""
    if target.vendor != VENDOR:
        return None
    from accel_horizon.check import check

    return check(model, target, options)


@hookimpl
def accel_perf(artifact: Artifact, options: RunOptions) -> Report | None:
    """The vendor's static performance."""
    if artifact.manifest.payload != PAYLOAD or artifact.manifest.vendor != VENDOR:
        return None
    from accel_horizon.perf import perf

    return perf(artifact, options)


@hookimpl
def accel_inspect(path: Path) -> Report | None:
    """``.hbm`` and ``.bin`` files, static performance JSON, and the board's ``profile.csv`` and ``profile.log``."""
    from accel_horizon.inspecting import inspect

    return inspect(path)


@hookimpl
def accel_error_hints() -> Sequence[ErrorHint]:
    """What the vendor's messages mean."""
    from accel_horizon.failures import HINTS

    return HINTS

"""The plugin that accel loads when one of its targets is used. Everything heavy is imported inside the hooks."""

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

VENDOR = "mlu"


@hookimpl
def accel_toolchains() -> Sequence[Toolchain]:
    """MagicMind, and the older Cambricon PyTorch."""
    from accel_mlu.magicmind.toolchain import MAGICMIND
    from accel_mlu.older.build import CAMBRICON_PYTORCH

    return [MAGICMIND, CAMBRICON_PYTORCH]


@hookimpl
def accel_build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact | None:
    """MagicMind or Cambricon PyTorch where they are installed, a script for them, or the embedded reference."""
    if target.vendor != VENDOR:
        return None
    from accel_mlu.build import build

    return build(model, target, options, calibration, workspace)


@hookimpl
def accel_commands(model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]] | None:
    """The script that builds with the SDK's own Python."""
    if target.vendor != VENDOR or options.backend == "reference" or not target.toolchain:
        return None
    from accel_mlu.build import toolchain_of

    magicmind = toolchain_of(target).name == "magicmind"
    return [["python", "build_magicmind.py" if magicmind else "build_cambricon.py"]]


@hookimpl
def accel_run(artifact: Artifact, options: RunOptions) -> Runner | None:
    """A MagicMind model on a card."""
    from accel_mlu.build import open_runner

    return open_runner(artifact, options)


@hookimpl
def accel_perf(artifact: Artifact, options: RunOptions) -> Report | None:
    """Measured by mm_run on a card, else predicted by the roofline."""
    if artifact.manifest.vendor != VENDOR:
        return None
    from accel_mlu.build import perf

    return perf(artifact, options)


@hookimpl
def accel_check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
    """Where each node runs, and what has no fixed-point form."""
    if target.vendor != VENDOR:
        return None
    from accel_mlu.check import check

    return check(model, target, options)


@hookimpl
def accel_error_hints() -> Sequence[ErrorHint]:
    """Messages of MagicMind and its tools."""
    from accel_mlu.hints import HINTS

    return HINTS

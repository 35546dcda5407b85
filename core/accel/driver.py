"""The stages as functions: resolve the target, ask the hooks, keep what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel.options import BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions, RunOptions

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.report import Report
    from accel.runner import Runner
    from accel.target import Target
    from accel.task import Task


def parse(source: str | Path, options: ParseOptions | None = None) -> Model:
    """Read a network into a checked, shape-inferred, simplified :class:`~accel.model.Model`."""
    raise NotImplementedError


def calibrate(
    model: Model, dataset: Dataset, options: CalibrateOptions | None = None, *, target: str | Target | None = None
) -> Calibration:
    """Measure every activation of ``model`` once, for all targets."""
    raise NotImplementedError


def build(
    model: Model,
    target: str | Target,
    output: str | Path,
    options: BuildOptions | None = None,
    *,
    calibration: Calibration | None = None,
) -> Artifact:
    """Compile ``model`` for one target into the directory ``output``."""
    raise NotImplementedError


def open_artifact(path: str | Path) -> Artifact:
    """Read and verify an artifact directory."""
    raise NotImplementedError


def run(artifact: Artifact | str | Path, options: RunOptions | None = None) -> Runner:
    """Open an artifact for inference."""
    raise NotImplementedError


def evaluate(
    runner: Runner, dataset: Dataset, task: Task | None = None, options: EvaluateOptions | None = None
) -> Report:
    """Measure how right a runner is over a data set."""
    raise NotImplementedError


def compile(
    source: str | Path,
    targets: Sequence[str],
    output: str | Path,
    *,
    dataset: Dataset | None = None,
    parse_options: ParseOptions | None = None,
    calibrate_options: CalibrateOptions | None = None,
    build_options: BuildOptions | None = None,
) -> list[Artifact]:
    """Parse, calibrate once and build for every target, side by side."""
    raise NotImplementedError

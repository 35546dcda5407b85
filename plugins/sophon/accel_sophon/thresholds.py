"""Whose thresholds: ours, written as the compiler's table, or those of its own calibration tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import progress
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target

from accel_sophon import commands, mlir, table
from accel_sophon.commands import Bench

if TYPE_CHECKING:
    from accel.calibration import Range


@dataclass(frozen=True)
class Thresholds:
    """Tables for the compiler.

    Attributes:
        table: Calibration table.
        precisions: Quantize table that the vendor's search wrote, or None.
        notes: For the manifest.
    """

    table: Path
    precisions: Path | None
    notes: list[str]


def ours(
    bench: Bench,
    module: mlir.Module,
    tensors: Mapping[str, str],
    kept: Mapping[str, Range],
    note: str,
) -> Thresholds:
    """The table from our calibration: the kept range of every tensor."""
    path = bench.folder / "calibration_table"
    table.write_calibration(path, table.ranges_by_location(module, tensors, kept), f"accel: {note}")
    return Thresholds(path, None, [f"thresholds: {note}"])


def vendors(bench: Bench, source: Path, model: Model, target: Target, options: BuildOptions) -> Thresholds:
    """The vendor's own calibration over ``options.dataset``.

    Raises:
        AccelError: ``usage.calibration`` without data.
    """
    import numpy as np

    if options.dataset is None:
        raise AccelError(
            "the vendor's calibration needs data",
            code="usage.calibration",
            hints=["Give --data FOLDER with --calibrator vendor."],
        )
    folder = bench.folder / "calibration_data"
    folder.mkdir()
    batch = int(model.inputs[0].shape[0]) if model.inputs[0].shape else 1
    count = 0
    for sample in options.dataset:
        arrays: dict[str, Any] = {
            name: np.asarray(np.repeat(a, batch, axis=0)[:batch] if a.shape[0] != batch else a, np.float32)
            for name, a in sample.inputs.items()
        }
        np.savez(folder / f"{count:06d}.npz", **arrays)
        count += 1
    if not count:
        raise AccelError("the calibration data is empty", code="usage.calibration")
    search = options.set.get("search", "")
    with progress.step("the vendor's calibration"):
        path, precisions = commands.calibrate(
            bench, source, folder, count, chip=target.arch, method=options.method, search=search
        )
    note = f"thresholds: the vendor's tool, {commands.METHODS[options.method]}, {count} samples"
    return Thresholds(path, precisions, [note + (f", {search}" if search else "")])

"""One file a calibration: written atomically, checked when read, nothing unpickled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from accel.calibration import Calibration


def save(calibration: Calibration, path: Path) -> None:
    """Write ``calibration`` to ``path``; see :meth:`accel.calibration.Calibration.save`."""
    raise NotImplementedError


def load(path: Path) -> Calibration:
    """Read ``path``; see :meth:`accel.calibration.Calibration.load`."""
    raise NotImplementedError

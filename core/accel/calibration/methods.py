"""From statistics to ranges: one function a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range


def ranges(calibration: Calibration, method: str, *, bits: int = 8, symmetric: bool = True) -> dict[str, Range]:
    """Range by tensor name; see :meth:`accel.calibration.Calibration.ranges`."""
    raise NotImplementedError

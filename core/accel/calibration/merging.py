"""Two calibrations of one model into one: halves of a data set measured by two machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.calibration import Calibration


def merge(first: Calibration, second: Calibration) -> Calibration:
    """The calibration of both data sets together, in any order and grouping.

    The digest of the data is the sum of both digests modulo 2^256, so that it does not depend on
    order or grouping either.

    Raises:
        AccelError: ``calibration.mismatch`` when they measured different models or tensors.
    """
    from accel.calibration import Calibration
    from accel.calibration.histogram import merged

    if first.model_digest != second.model_digest:
        raise AccelError(
            "the two calibrations are of different models",
            code="calibration.mismatch",
            stage="calibrate",
            cause=f"model digests {first.model_digest[:12]} and {second.model_digest[:12]}",
            hints=["Calibrate both halves with the same prepared model."],
        )
    if set(first.tensors) != set(second.tensors) or first.values != second.values:
        only = sorted(set(first.tensors) ^ set(second.tensors))
        raise AccelError(
            "the two calibrations measured different tensors",
            code="calibration.mismatch",
            stage="calibrate",
            cause=f"only one has {only[0]!r}" if only else "a different number of values per tensor was counted",
            hints=["Calibrate both halves with the same options and the same version."],
        )
    return Calibration(
        model_digest=first.model_digest,
        data_digest=add_digests(first.data_digest, second.data_digest),
        samples=first.samples + second.samples,
        tensors={name: merged(stats, second.tensors[name]) for name, stats in first.tensors.items()},
        values=first.values,
    )


def add_digests(first: str, second: str) -> str:
    """Sum modulo 2^256 of two SHA-256 digests in hex."""
    return f"{(int(first, 16) + int(second, 16)) % (1 << 256):064x}"

"""Float against artifact: streaming measures of one tensor over all samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SQNR_LIMIT = 150.0
"""dB: about the rounding noise of float32. Equal tensors count as this, and no sample as less than minus this."""

DIVERGED = 0.99
"""A layer whose mean cosine over the samples is below this has diverged (``EvaluateOptions.extra['diverged']``)."""


@dataclass
class TensorComparison:
    """Measures of one tensor, fed sample by sample.

    For a sample with reference ``r`` and value ``v`` over all elements: cosine = r.v / (|r| |v|); SQNR =
    10 log10(sum r^2 / sum (v - r)^2) in dB, kept within +-``SQNR_LIMIT``; maximum error = max |v - r|. The figures
    are means over the samples (the maximum is the largest). Agreement is the share of positions whose largest
    value along axis 1 has the same index.

    Elements that are not finite in the reference are left out. A sample with values that are not finite where
    the reference is finite counts as cosine 0, SQNR ``-SQNR_LIMIT`` and no agreement.
    """

    name: str
    classes: bool = False
    """Measure agreement too."""
    samples: int = 0
    shape: tuple[int, ...] = ()
    mismatch: str = ""
    """Why the tensor is not compared, if it is not."""
    worst: str = ""
    """The sample with the lowest cosine."""
    worst_cosine: float = math.inf
    max_error: float | None = 0.0
    """Largest |v - r|; None when a sample was not finite."""
    broken: int = 0
    """Samples with non-finite values where the reference has finite ones."""
    broken_first: str = ""
    reference_broken: int = 0
    """Samples whose reference holds non-finite values."""
    _cosine: list[float] = field(default_factory=list)
    _sqnr: list[float] = field(default_factory=list)
    _agreement: list[float] = field(default_factory=list)

    def add(self, reference: np.ndarray, value: np.ndarray, sample: str) -> None:
        """Compare one sample."""
        if self.mismatch:
            return
        if reference.shape != value.shape:
            self.mismatch = shape_mismatch(reference.shape, value.shape)
            return
        self.samples += 1
        self.shape = tuple(reference.shape)
        ref = reference.astype(np.float64).ravel()
        val = value.astype(np.float64).ravel()
        known = np.isfinite(ref)
        if not known.all():
            self.reference_broken += 1
            ref, val = ref[known], val[known]
        if not np.isfinite(val).all():
            self._broken(sample)
            return
        cosine, sqnr, error = measures(ref, val)
        self._cosine.append(cosine)
        self._sqnr.append(sqnr)
        self.max_error = None if self.max_error is None else max(self.max_error, error)
        if cosine < self.worst_cosine:
            self.worst, self.worst_cosine = sample, cosine
        if self.classes and reference.ndim >= 2 and reference.shape[1] > 1:
            same = np.argmax(reference, axis=1) == np.argmax(value, axis=1)
            self._agreement.append(float(np.mean(same)))

    def _broken(self, sample: str) -> None:
        self.broken += 1
        self.broken_first = self.broken_first or sample
        self.worst, self.worst_cosine = (sample, 0.0) if self.worst_cosine > 0 else (self.worst, self.worst_cosine)
        self._cosine.append(0.0)
        self._sqnr.append(-SQNR_LIMIT)
        self.max_error = None
        if self.classes:
            self._agreement.append(0.0)

    @property
    def cosine(self) -> float | None:
        """Mean cosine; None when nothing was compared."""
        return _mean(self._cosine)

    @property
    def sqnr(self) -> float | None:
        """Mean SQNR in dB; None when nothing was compared."""
        return _mean(self._sqnr)

    @property
    def agreement(self) -> float | None:
        """Mean argmax agreement, 0..1; None where there is no class axis."""
        return _mean(self._agreement)

    def notes(self) -> list[str]:
        """What must not go unsaid about this tensor."""
        said = []
        if self.mismatch:
            said.append(f"{self.name} was not compared: {self.mismatch}")
        if self.broken:
            said.append(
                f"{self.name}: NaN or infinity in {self.broken} of {self.samples} samples where float is finite, "
                f"first in {self.broken_first}"
            )
        if self.reference_broken:
            said.append(f"{self.name}: the float model itself gives NaN or infinity in {self.reference_broken} samples")
        return said


def measures(reference: np.ndarray, value: np.ndarray) -> tuple[float, float, float]:
    """Cosine, SQNR in dB and largest absolute error of two finite float64 vectors."""
    error = value - reference
    signal, noise, other = float(reference @ reference), float(error @ error), float(value @ value)
    if noise == 0.0:
        return 1.0, SQNR_LIMIT, 0.0
    largest = float(np.max(np.abs(error)))
    sqnr = 10.0 * math.log10(signal / noise) if signal > 0.0 else -SQNR_LIMIT
    cosine = float(reference @ value) / math.sqrt(signal) / math.sqrt(other) if signal > 0.0 and other > 0.0 else 0.0
    return max(-1.0, min(1.0, cosine)), max(-SQNR_LIMIT, min(SQNR_LIMIT, sqnr)), largest


def shape_mismatch(reference: Sequence[int], value: Sequence[int]) -> str:
    """Says how two shapes differ, and whether it looks like another layout."""
    said = f"its shape is {list(value)} and float's is {list(reference)}"
    if math.prod(reference) != math.prod(value):
        return said
    if sorted(reference) == sorted(value):
        return f"{said}: it looks like another layout (NHWC and NCHW); the memory is not reinterpreted"
    return f"{said}: as many elements, but the memory is not reinterpreted"


def first_divergence(layers: Sequence[TensorComparison], bar: float = DIVERGED) -> TensorComparison | None:
    """The first tensor in execution order whose mean cosine is below ``bar`` or that is not finite."""
    for layer in layers:
        if layer.broken or (layer.cosine is not None and layer.cosine < bar):
            return layer
    return None


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None

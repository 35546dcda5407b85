"""One row of a sample through the network and into the histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from accel.builtin.calibrators.tensors import Plan, instrument
from accel.calibration.histogram import Accumulator
from accel.errors import AccelError
from accel.model import Model

RUN = 16
"""Neighbouring values that are binned together where not all are."""

HUGE = 1e15
"""Beyond it sums of products may overflow, and a NaN may come from nowhere."""


@dataclass(frozen=True)
class Measured:
    """One row of a tensor; smallest, largest and mean by channel where they are known."""

    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    mean: np.ndarray | None = None


class Network:
    """The instrumented network in ONNX Runtime; may be run by several threads at once.

    Every row is inferred by itself (batch 1) and on one thread: how a library splits a batch or a matrix
    over threads decides the order in which it adds, and with it the last bits.
    """

    def __init__(self, model: Model, plan: Plan, *, per_channel: bool) -> None:
        self.plan = plan
        self.per_channel = per_channel
        extremes = [n for n in plan.fetched if n in plan.safe and plan.ranks.get(n, 0) > 2] if per_channel else []
        proto, pairs = instrument(model, plan, extremes)
        self._session = open_session(proto)
        at = len(plan.fetched)
        self._extremes: dict[str, tuple[int, ...]] = {}
        for name, outputs in pairs.items():
            self._extremes[name] = tuple(range(at, at + len(outputs)))
            at += len(outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[Measured]:
        """The measured tensors, each as one row of values with what is known by channel."""
        results = self._session.run(None, dict(feeds))
        found: list[Measured] = []
        fetched = dict(zip(self.plan.fetched, results, strict=False))
        for name in self.plan.measured:
            found_at = self._extremes.get(name)
            values = fetched[name] if name in fetched else feeds[name]
            if not self.per_channel or values.shape[:1] != (1,):
                found.append(Measured(values))
            elif found_at is None:
                mean = channel_means(values) if name in self.plan.averaged else None
                found.append(Measured(values, *channel_extremes(values), mean))
            else:
                found.append(Measured(values, *(results[at].reshape(-1) for at in found_at)))
        return found


def open_session(proto: onnx.ModelProto) -> Any:
    """A session on one thread, every graph optimisation on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all bare
        raise AccelError(
            "ONNX Runtime cannot open the network",
            code="failed.calibrate",
            stage="calibrate",
            cause=str(error).splitlines()[0],
        ) from error


def channel_extremes(values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Smallest and largest value by channel (axis 1), NaN where the channel has one; None without channels.

    Args:
        values: One row: shape (1, channels, ...).
    """
    if values.ndim < 2 or not values.size:
        return None, None
    flat = values.reshape(-1)
    if values.ndim == 2:
        return flat, flat
    starts = np.arange(0, flat.size, flat.size // values.shape[1])
    return np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts)


def spread(values: np.ndarray, limit: int) -> np.ndarray:
    """A view of about ``limit`` values (0: of all) of one row, evenly spread over it: runs of ``RUN``
    neighbours, all columns of a picture equally often.

    Single values would be no cheaper than runs: memory comes in lines of 64 bytes.
    """
    flat = values.reshape(-1)
    if not limit or flat.size <= limit:
        return flat
    runs = flat.size // RUN
    plane = math.prod(values.shape[2:]) if values.ndim > 2 else values.shape[-1]
    stride = -(-runs * RUN // limit)
    while math.gcd(stride, plane) != 1:
        stride += 1
    return flat[: runs * RUN].reshape(runs, RUN)[::stride]


def channel_means(values: np.ndarray) -> np.ndarray | None:
    """Mean by channel (axis 1) of one row of shape (1, channels, ...); None without channels."""
    if values.ndim < 2 or not values.size:
        return None
    return np.asarray(values.reshape(values.shape[1], -1).mean(axis=1, dtype=np.float64))


class Worker:
    """The accumulators of one thread."""

    def __init__(self, network: Network, values: int) -> None:
        self.network = network
        self.values = values
        self.tensors = [Accumulator(name) for name in network.plan.measured]

    def take(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Measure one row."""
        found = self.network.run(feeds)
        bounds = [_bounds(entry.values, entry.low, entry.high) for entry in found]
        careful = self.network.plan.dirty or not all(low > -HUGE and high < HUGE for low, high in bounds)
        for tensor, entry, (least, most) in zip(self.tensors, found, bounds, strict=True):
            values, low, high = entry.values, entry.low, entry.high
            if not values.size:
                continue
            kept = spread(values, self.values)
            if careful:
                _add_carefully(tensor, values, kept, per_channel=low is not None)
                tensor.drop_means()
                continue
            tensor.add_range(least, most, values.size)
            tensor.add_channels(low, high)
            if entry.mean is not None:
                tensor.add_means(entry.mean)
            tensor.fill(kept)


def _bounds(values: np.ndarray, low: np.ndarray | None, high: np.ndarray | None) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    if low is None or high is None:
        return float(values.min()), float(values.max())
    return float(low.min()), float(high.max())


def _add_carefully(tensor: Accumulator, values: np.ndarray, kept: np.ndarray, *, per_channel: bool) -> None:
    """Add a tensor that may hold NaN or infinities: they are counted and left out."""
    good = np.isfinite(values)
    finite = values[good]
    if not finite.size:
        tensor.add_range(0.0, 0.0, 0, values.size)
        return
    tensor.add_range(float(finite.min()), float(finite.max()), finite.size, values.size - finite.size)
    if per_channel:
        low, _ = channel_extremes(np.where(good, values, np.inf))
        _, high = channel_extremes(np.where(good, values, -np.inf))
        tensor.add_channels(low, high)
    tensor.fill(kept[np.isfinite(kept)])

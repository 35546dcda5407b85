"""One row of a sample through the network and into the histograms."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from accel.builtin.calibrators.packing import RUN, pack, packable, spread, whole_tensors
from accel.builtin.calibrators.tensors import Plan
from accel.calibration.histogram import Accumulator, mean_units
from accel.errors import AccelError
from accel.model import Model

HUGE = 1e15
"""Beyond it sums of products may overflow, and a NaN may come from nowhere."""

ROWS = 16
"""Rows whose values are binned together: fetching a table into the cache costs more than the values of one."""


@dataclass(frozen=True)
class Row:
    """What the network gave for one row.

    Attributes:
        kept: float32 [runs, RUN]: values of the packed tensors to be binned, joined.
        high: float32: their largest values by channel, joined.
        low: float32: the smallest ones of those that may be negative, likewise.
        mean: float32: means by channel of those that are averaged, likewise.
        loose: The other tensors, by name.
        watched: Tensors in which a NaN may appear first.
    """

    kept: np.ndarray
    high: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    loose: Mapping[str, np.ndarray]
    watched: Sequence[np.ndarray]

    def tame(self) -> bool:
        """True when nothing in it can be NaN, infinite or about to be.

        ONNX Runtime's extremes may pass over a NaN, so the tensors in which one could arise are looked at
        themselves (NumPy's extremes are NaN if any value is).
        """
        arrays = [self.low, self.high, self.mean, *self.loose.values(), *self.watched]
        return all(a.min() > -HUGE and a.max() < HUGE for a in arrays if a.size)


class Network:
    """The network in ONNX Runtime, made to hand out what is measured; several threads may run it at once.

    Every row is inferred by itself (batch 1) and on one thread: how a library splits a batch or a matrix
    over threads decides the order in which it adds, and with it the last bits.
    """

    def __init__(self, model: Model, plan: Plan, values: int) -> None:
        self.plan = plan
        self._model = model
        inputs = {spec.name for spec in model.inputs}
        shapes = {name: shape for name, shape in plan.shapes.items() if packable(shape) and name not in inputs}
        self._loose = [name for name in plan.measured if name not in shapes]
        self._watched = [name for name in plan.watched if name in shapes]
        whole = (*self._loose, *self._watched)
        self._fetched = [name for name in whole if name not in inputs]
        proto, self.packed = pack(model, shapes, self._fetched, values, averaged=plan.averaged, floored=plan.floored)
        self._session = open_session(proto)
        self._whole: Any = None
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Row:
        """Infer one row."""
        results = self._session.run(None, dict(feeds))
        held = dict(feeds) | dict(zip(self._fetched, results, strict=False))
        kept, *vectors = results[-4:] if self.packed else [np.empty((0, RUN), np.float32)] * 4
        loose = {name: held[name] for name in self._loose}
        high, low, mean = (vector.reshape(-1) for vector in vectors)
        return Row(kept, high, low, mean, loose, [held[name] for name in self._watched])

    def whole(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All measured tensors in full, by name: for rows with NaN or infinities."""
        names = [name for name in self.plan.measured if name not in feeds]
        with self._lock:
            if self._whole is None:
                self._whole = open_session(whole_tensors(self._model, names))
        return dict(feeds) | dict(zip(names, self._whole.run(None, dict(feeds)), strict=True))


def open_session(proto: onnx.ModelProto) -> Any:
    """A session on one thread, every graph optimisation on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Depth first, the default, puts the extremes of every tensor at the end, when none is in the cache any more.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all bare
        raise AccelError(
            "ONNX Runtime cannot open the network",
            code="failed.calibrate",
            stage="calibrate",
            cause=str(error).splitlines()[0],
        ) from error


class Worker:
    """The accumulators of one thread.

    Args:
        network: What is run.
        values: At most about this many values of a tensor and row are binned; 0: all.
        per_channel: Keep extremes by channel.
    """

    def __init__(self, network: Network, values: int, *, per_channel: bool) -> None:
        self.network = network
        self.values = values
        self.per_channel = per_channel
        self.tensors = {name: Accumulator(name) for name in network.plan.measured}
        self._rows: list[Row] = []

    def take(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Measure one row."""
        row = self.network.run(feeds)
        if self.network.plan.dirty or not row.tame():
            whole = self.network.whole(feeds)
            for name, tensor in self.tensors.items():
                self._add_carefully(tensor, whole[name])
                tensor.drop_means()
            return
        for name, values in row.loose.items():
            self._add(self.tensors[name], values)
            if self.per_channel and name in self.network.plan.averaged:
                self._add_means(self.tensors[name], values)
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self.flush()

    def flush(self) -> None:
        """Bin what was kept back."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        low = np.minimum.reduce([row.low for row in rows])
        high = np.maximum.reduce([row.high for row in rows])
        sums, fits = mean_units(np.stack([row.mean for row in rows]))
        for part in self.network.packed:
            tensor = self.tensors[part.name]
            most = high[part.highs]
            least = np.zeros_like(most) if part.lows is None else low[part.lows]
            tensor.add_range(float(least.min()), float(most.max()), part.size * len(rows))
            if self.per_channel:
                tensor.add_channels(least, most)
                if part.means is not None and part.name in self.network.plan.averaged:
                    tensor.add_mean_units(sums[part.means] if fits[part.means].all() else None, len(rows))
            tensor.fill(np.concatenate([row.kept[part.runs] for row in rows]))

    def _add(self, tensor: Accumulator, values: np.ndarray) -> None:
        if not values.size:
            return
        least = min(float(values.min()), self._floor(tensor))
        tensor.add_range(least, float(values.max()), values.size)
        if self.per_channel:
            low, high = channel_extremes(values)
            tensor.add_channels(None if low is None else np.minimum(low, self._floor(tensor)), high)
        tensor.fill(spread(values, self.values))

    def _floor(self, tensor: Accumulator) -> float:
        return 0.0 if tensor.name in self.network.plan.floored else np.inf

    def _add_means(self, tensor: Accumulator, values: np.ndarray) -> None:
        mean = channel_means(values)
        if mean is None:
            tensor.drop_means()
            return
        sums, fits = mean_units(mean)
        tensor.add_mean_units(sums if fits.all() else None, 1)

    def _add_carefully(self, tensor: Accumulator, values: np.ndarray) -> None:
        """Add a tensor that may hold NaN or infinities: they are counted and left out."""
        good = np.isfinite(values)
        finite = values[good]
        if finite.size:
            least = min(float(finite.min()), self._floor(tensor))
            tensor.add_range(least, float(finite.max()), finite.size, values.size - finite.size)
        else:
            tensor.add_range(0.0, 0.0, 0, values.size)
            return
        if self.per_channel:
            low, _ = channel_extremes(np.where(good, values, np.inf))
            low = None if low is None else np.minimum(low, self._floor(tensor))
            _, high = channel_extremes(np.where(good, values, -np.inf))
            tensor.add_channels(low, high)
        kept = spread(values, self.values)
        tensor.fill(kept[np.isfinite(kept)])


def channel_extremes(values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Smallest and largest value by channel (axis 1) of one row, shape (1, channels, ...); None without channels."""
    if values.ndim < 2 or values.shape[0] != 1 or not values.size:
        return None, None
    flat = values.reshape(-1)
    starts = np.arange(0, flat.size, flat.size // values.shape[1])
    return np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts)


def channel_means(values: np.ndarray) -> np.ndarray | None:
    """float64 [1, channels]: mean by channel (axis 1) of one row of shape (1, channels, ...); None without channels."""
    if values.ndim < 2 or values.shape[0] != 1 or not values.size:
        return None
    return np.asarray(values.reshape(1, values.shape[1], -1).mean(axis=2, dtype=np.float64))

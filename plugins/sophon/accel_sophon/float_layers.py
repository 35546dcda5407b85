"""``--set float_layers=N``: the N layers that 8-bit codes hurt most at the network's output stay in float.

The noise of each layer is predicted from the weights and the calibration, without running anything. Rounded weights add
``step^2 / 12`` a weight, times the variance of what the weight multiplies. How much of it arrives at the output is
followed through one layer: by the weights that read the channel, against the variance of what they compute; a branch
that is added to something larger counts by its share. (Following noise through all layers multiplies the error of the
assumption that channels are independent; measured layer by layer on EfficientNet-Lite0, this stops where it pays.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from accel.errors import AccelError
from accel.model import Model
from accel.target import Numerics
from numpy.typing import NDArray

if TYPE_CHECKING:
    from accel.builtin.reference.quantize import QuantizedModel
    from accel.calibration import Calibration, Range, TensorStatistics

F64 = NDArray[np.float64]

_CANCELLED = 0.1
"""What is left of the noise of a kernel's weights once their errors cancel (``round_weights``)."""
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def worst_layers(
    model: Model, numerics: Numerics, ranges: Mapping[str, Range], calibration: Calibration, count: int
) -> dict[str, str]:
    """Precision ``fp32`` by node name for the ``count`` layers with the most noise.

    A layer is a convolution, a matrix product or an addition. A ReLU or Clip behind one goes with it, as the compiler
    makes one layer of them; so does, unnamed, a pointwise convolution that it merges into the next.
    """
    from accel.builtin.prepare import graph as g

    noise = predicted_noise(model, numerics, ranges, calibration)
    readers = g.consumers(model.proto.graph)
    chosen: dict[str, str] = {}
    layers = [node for node in model.proto.graph.node if node.name in noise]
    for node in sorted(layers, key=lambda n: -noise[n.name])[:count]:
        chosen[node.name] = "fp32"
        following = readers.get(node.output[0], [])
        if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
            chosen[following[0].name] = "fp32"
    return chosen


def predicted_noise(
    model: Model, numerics: Numerics, ranges: Mapping[str, Range], calibration: Calibration
) -> dict[str, float]:
    """Noise-to-signal ratio (power) at the output that each layer alone causes, by node name."""
    from accel.builtin.reference.merge import merge_pointwise
    from accel.builtin.reference.quantize import quantize

    merged = model.with_proto(merge_pointwise(model.proto)[0])
    return _Noise(merged, quantize(merged, numerics, ranges), numerics, calibration).layers()


class _Noise:
    """One pass over the graph from its outputs to its inputs."""

    def __init__(self, model: Model, made: QuantizedModel, numerics: Numerics, calibration: Calibration) -> None:
        from accel.builtin.prepare import graph as g

        self.graph = model.proto.graph
        self.held = g.constants(self.graph)
        self.makers, self.readers = g.producers(self.graph), g.consumers(self.graph)
        self.made, self.numerics, self.calibration = made, numerics, calibration
        self.weight_of: dict[str, F64] = {}
        self.felt: dict[str, F64] = {}
        """Relative noise at the output for noise of power 1 in each channel of a tensor."""
        self.share: dict[str, float] = {}
        """How much of a tensor's signal is still in what the network goes on with."""

    def layers(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in (o.name for o in self.graph.output):
            stats = self._statistics(name)
            if stats is not None:
                channels = 1 if stats.channel_high is None else len(stats.channel_high)
                self.felt[name] = np.full(channels, 1 / (channels * max(self._total(name), 1e-30)))
        for node in reversed(self.graph.node):
            result = node.output[0]
            if result in self.made.grids and node.input[1] in self.held:
                found[node.name] = self._linear(node)
            elif node.op_type == "Add" and not set(node.input) & set(self.held):
                found[node.name] = self._addition(node)
            else:
                felt = self.felt.get(result, np.zeros(1)) * self._active(node)
                for name in node.input:
                    if name and name not in self.held:
                        self._feel(name, felt, self.share.get(result, 1.0))
        return found

    def _linear(self, node: onnx.NodeProto) -> float:
        """A convolution or matrix product: [outputs, inputs of a group, taps]."""
        from accel.builtin.prepare import graph as g
        from accel.builtin.prepare.rounding import correlation

        result, source = node.output[0], node.input[0]
        attributes = g.attributes(node)
        weight = self.held[node.input[1]].astype(np.float64)
        if node.op_type == "ConvTranspose" or (node.op_type != "Conv" and not attributes.get("transB", 0)):
            weight = weight.swapaxes(0, 1)
        # Neighbouring values are alike, so the taps of a kernel add up before they are squared.
        alike = correlation((1, *weight.shape[2:], 1), 0.0)
        weight = weight.reshape(*weight.shape[:2], -1)
        single = attributes.get("group", 1) > 1 and weight.shape[1] == 1
        power = ((weight @ alike) * weight).sum(axis=2)
        spread = self._variance(source, weight.shape[0] if single else weight.shape[1])
        signal = max(float((power[:, 0] * spread).sum() if single else (power @ spread).sum()), 1e-30)
        share = self.share.get(result, 1.0)
        felt = self.felt.get(result, np.zeros(1))
        felt = np.broadcast_to(felt if felt.size == len(weight) else felt.mean(), (len(weight),))
        self._feel(source, share * (power[:, 0] if single else power.sum(axis=0)) / signal, share)
        step = np.broadcast_to(np.asarray(self.made.grids[result].scale, np.float64).reshape(-1), (len(weight),))
        cancelled = _CANCELLED if weight.shape[2] > 1 and self.numerics.requantize == "shift" else 1.0
        inputs = spread if single else np.full(len(weight), spread.sum())
        return float(cancelled * weight.shape[2] * (step**2 / 12 * felt * inputs).sum())

    def _addition(self, node: onnx.NodeProto) -> float:
        """Its result is rounded; each operand before it, too."""
        result = node.output[0]
        felt, share = self.felt.get(result, np.zeros(1)), self.share.get(result, 1.0)
        whole = max(self._total(result), 1e-30)
        for name in node.input:
            # What others read as well is the trunk: the branch was computed from it.
            trunk = len(self.readers.get(name, [])) > 1
            self._feel(name, felt, share if trunk else share * min(1.0, self._total(name) / whole))
        form = self.made.tensors.get(result)
        step = 1 / form.inverse if form is not None and form.inverse else 0.0
        return float(step**2 / 12 * felt.sum())

    def _active(self, node: onnx.NodeProto) -> float:
        """Share of the values that a Relu or Clip lets through as they are."""
        stats = self._statistics(node.output[0]) if node.op_type in ("Relu", "Clip") else None
        if stats is None:
            return 1.0
        counts = stats.positive
        top = int(stats.high / 2.0**stats.exponent)
        cut = int(counts[:1].sum()) + (int(counts[top:].sum()) if node.op_type == "Clip" else 0)
        return 1 - cut / max(int(counts.sum() + stats.negative.sum()), 1)

    def _feel(self, name: str, felt: F64, share: float) -> None:
        held = self.felt.get(name)
        fits = held is None or 1 in (held.size, felt.size) or held.size == felt.size
        self.felt[name] = felt if held is None else held + (felt if fits else felt.mean())
        self.share[name] = max(self.share.get(name, 0.0), share)

    def _statistics(self, name: str) -> TensorStatistics | None:
        stats = self.calibration.tensors.get(name)
        while stats is not None and stats.channel_high is None and name in self.makers:
            if self.makers[name].op_type not in _VIEWS:
                break
            name = self.makers[name].input[0]
            stats = self.calibration.tensors.get(name)
        return stats

    def _total(self, name: str) -> float:
        """Variance of all values of a tensor."""
        stats = self._statistics(name)
        return 0.0 if stats is None else _moments(stats)[1]

    def _variance(self, name: str, channels: int) -> F64:
        """Variance by channel. The calibration keeps extremes and means of channels: a channel's variance is at most
        ``(high - mean) (mean - low)`` (Bhatia and Davis); all get the same share of it, so that the sum is right."""
        stats = self._statistics(name)
        if stats is None:
            return np.ones(channels)
        square, total = _moments(stats)
        mean, high, low = stats.channel_mean, stats.channel_high, stats.channel_low
        if mean is None or high is None or len(mean) != channels:
            return np.full(channels, total)
        most = np.maximum(high - mean, 0) * np.maximum(mean - (0 if low is None else low), 0)
        within = max(square - float((mean**2).mean()), 1e-3 * square)
        return np.asarray(most * (within / max(float(most.mean()), 1e-30)))


def _moments(stats: TensorStatistics) -> tuple[float, float]:
    """Mean square and variance of a tensor's values, from its histogram; the bin at zero holds zeros."""
    width = 2.0**stats.exponent
    counts = np.concatenate([stats.negative[::-1], stats.positive]).astype(np.float64)
    centre = (np.arange(len(counts)) - len(stats.negative) + 0.5) * width
    if len(stats.positive):
        centre[len(stats.negative)] = 0
    count = max(float(counts.sum()), 1.0)
    square, mean = float(counts @ centre**2) / count, float(counts @ centre) / count
    return square, max(square - mean**2, 0.0)


def asked(value: str) -> int:
    """The option's number.

    Raises:
        AccelError: ``usage.option``.
    """
    if not value.isdigit():
        raise AccelError(f"float_layers={value!r} is no number of layers", code="usage.option")
    return int(value)

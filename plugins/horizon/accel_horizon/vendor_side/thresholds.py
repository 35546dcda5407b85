"""Thresholds that accel measured, set on hmct's calibration nodes. Imported by ``build_model.py``."""

import copy

import numpy as np
from horizon_nn.executor import ORTExecutor
from horizon_nn.quantizer.calibrater.base import CalibrationPass

PREPROCESS = "HZ_PREPROCESS_FOR_"
"""What hmct calls the result of the input conversion it puts before an input."""


class OurThresholds(CalibrationPass):
    """Sets the thresholds that accel derived from its own calibration.

    hmct renames tensors and makes new ones. For those it has no name in ``ranges``, the range is that of a measured
    tensor with the same values; where there is none, it is derived from the range of what the tensor is made from.
    Of the tensors that hmct would store without a sign those stay so that are in ``unsigned``.
    """

    def __init__(self, calibration, float_models, notes):
        self.ranges = calibration["ranges"]
        self.unsigned = set(calibration["unsigned"])
        self.float_models = float_models
        self.notes = notes
        self.used = {}

    @property
    def name(self):
        return "accel_thresholds"

    def run_impl(self, calibrated_model, **_):
        nodes = [
            node
            for node in calibrated_model.graph.type2nodes["HzCalibration"]
            if node.tensor_type == "feature" and node.constant == 0
        ]
        found = self._found([n.inputs[0].name for n in nodes])
        for node in nodes:
            name = node.inputs[0].name
            low, high = found[name]
            if node.qtype == "uint8" and self.used.get(name) not in self.unsigned:
                node.qtype = "int8"
            node.thresholds = [min(low, 0.0), max(high, 0.0)] if node.asymmetric else [max(abs(low), abs(high))]
        return calibrated_model

    def _found(self, tensors):
        """Range by tensor name."""
        source = {t: t for t in tensors if t in self.ranges}
        source.update({t: t[len(PREPROCESS) :] for t in tensors if t.startswith(PREPROCESS)})
        unknown = [t for t in tensors if t not in source]
        before, after = {}, {}
        if unknown:
            before, after = probe(*self.float_models, set(self.ranges))
            source.update(same_values(unknown, before, after))
        self.used.update(source)
        found = {t: self.ranges[s] for t, s in source.items()}
        producers = {v.name: n for n in self.float_models[1].graph.nodes for v in n.outputs}
        for tensor in unknown:
            if tensor not in found:
                found[tensor] = self._derived(tensor, found, producers, after)
        return found

    def _derived(self, tensor, found, producers, after):
        node = producers.get(tensor)
        for variable in node.inputs if node is not None else ():
            name = variable.name
            known = found.get(name) or self.ranges.get(name)
            if known is None and name in producers and not variable.is_param:
                known = self._derived(name, found, producers, after)
            if known is None or name not in after or tensor not in after:
                continue
            gain = averaging_gain(node)
            if gain is None:
                gain = np.abs(after[tensor]).max() / max(np.abs(after[name]).max(), 1e-12)
            self.notes.append(f"the range of the compiler's own tensor {tensor} is derived from that of {name}")
            return [known[0] * gain, known[1] * gain]
        raise ValueError("accel: no calibration range for tensor " + tensor)


def averaging_gain(node):
    """How much larger than its input a result can be, for nodes that average; None for others."""
    if node.op_type in ("AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"):
        return 1.0
    if node.op_type == "Conv" and len(node.inputs) == 2 and node.inputs[1].value is not None:
        weights = np.asarray(node.inputs[1].value)
        gain = float(np.abs(weights).reshape(len(weights), -1).sum(axis=1).max())
        if gain <= 1.001:
            return gain
    return None


def probe(original, optimised, known):
    """Values of the known tensors of the original model, and of all of the optimised, for one random input."""
    rng = np.random.RandomState(0)
    feeds = {n: rng.rand(*shape).astype(np.float32) * 2 - 1 for n, shape in original.graph.input_shapes.items()}
    every = {v.name for node in optimised.graph.nodes for v in node.outputs} | set(feeds)
    return tensor_values(original, known, feeds), tensor_values(optimised, every, feeds)


def same_values(unknown, before, after):
    """For each unknown tensor of the optimised model, a known one of the original model with the same values."""
    found = {}
    for name in unknown:
        values = after.get(name)
        if values is None:
            continue
        values = np.sort(values, axis=None)
        best = None
        for other, theirs in before.items():
            if theirs.size != values.size:
                continue
            distance = np.abs(np.sort(theirs, axis=None) - values).max() / (np.abs(values).max() + 1e-12)
            if distance < 1e-3 and (best is None or distance < best[0]):
                best = (distance, other)
        if best:
            found[name] = best[1]
    return found


def tensor_values(model, wanted, feeds):
    model = copy.deepcopy(model)
    have = set(model.graph.output_names)
    extra = [v for node in model.graph.nodes for v in node.outputs if v.name in wanted and v.name not in have]
    model.graph.extend_outputs(extra)
    results = ORTExecutor(model.infer_shapes()).to("cpu").create_session().forward(feeds)
    results.update({n: f for n, f in feeds.items() if n in wanted})
    return {n: np.asarray(v) for n, v in results.items() if n in wanted and np.asarray(v).dtype == np.float32}

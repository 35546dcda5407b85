"""A network of every kind of operator, in every kind of numerics: it runs, stays close, and says what is float."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import ReferenceRunner
from accel.numerics import fixed_inputs, float_numerics, stored_int
from support.networks import every_tensor, network, seen_ranges


def wide_net():
    rng = np.random.default_rng(7)

    def w(*shape):
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "w0": w(16, 4, 3, 3), "w1": w(16, 16, 1, 1), "w2": w(16, 16, 1, 1), "wt": w(16, 8, 2, 2), "w3": w(8, 8, 1, 1),
        "wq": w(8, 8), "wk": w(8, 8), "slope": np.full((8, 1, 1), 0.2, np.float32), "gamma": np.ones(8, np.float32),
        "half": np.float32(0.5), "scales": np.float32([1, 1, 2, 2]),
        "begin": np.int64([0, 0]), "end": np.int64([12, 12]),
        "axes": np.int64([2, 3]), "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "parts": np.int64([8, 8]),
        "shape": np.int64([1, 8, -1]),
    }  # fmt: skip
    nodes = [
        ("Conv", ["x", "w0"], ["c0"], {"pads": [1] * 4}),
        ("HardSwish", ["c0"], ["h0"], {}),
        ("ReduceMean", ["h0"], ["squeezed"], {"axes": [2, 3], "keepdims": 1}),
        ("Conv", ["squeezed", "w1"], ["c1"], {}),
        ("Sigmoid", ["c1"], ["gate"], {}),
        ("Mul", ["h0", "gate"], ["excited"], {}),
        ("Conv", ["excited", "w2"], ["c2"], {}),
        ("LeakyRelu", ["c2"], ["leaky"], {"alpha": 0.1}),
        ("Sub", ["leaky", "h0"], ["differ"], {}),
        ("ConvTranspose", ["differ", "wt"], ["up"], {"strides": [2, 2]}),
        ("PRelu", ["up", "slope"], ["prelu"], {}),
        ("Slice", ["prelu", "begin", "end", "axes"], ["cut"], {}),
        ("Resize", ["cut", "", "scales"], ["bigger"], {"mode": "linear"}),
        ("Pad", ["bigger", "pads", "half"], ["padded"], {}),
        ("AveragePool", ["padded"], ["pooled"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["pooled", "w3"], ["c3"], {}),
        ("Reshape", ["c3", "shape"], ["tokens"], {}),
        ("Transpose", ["tokens"], ["rows"], {"perm": [0, 2, 1]}),
        ("LayerNormalization", ["rows", "gamma"], ["normal"], {"axis": -1}),
        ("MatMul", ["normal", "wq"], ["q"], {}),
        ("MatMul", ["normal", "wk"], ["k"], {}),
        ("Transpose", ["k"], ["kt"], {"perm": [0, 2, 1]}),
        ("MatMul", ["q", "kt"], ["scores"], {}),
        ("Softmax", ["scores"], ["attention"], {"axis": -1}),
        ("MatMul", ["attention", "normal"], ["mixed"], {}),
        ("Add", ["mixed", "normal"], ["y"], {}),
        ("Split", ["h0", "parts"], ["s0", "s1"], {"axis": 1}),
        ("Concat", ["s1", "s0"], ["turned"], {"axis": 1}),
        ("Tanh", ["turned"], ["t"], {}),
        ("GlobalMaxPool", ["t"], ["z"], {}),
        ("ArgMax", ["y"], ["best"], {"axis": -1}),
    ]
    model = network(nodes, {"x": [1, 4, 12, 12]}, {"y": None, "z": None}, constants)
    return model, {"x": rng.normal(0, 1, (1, 4, 12, 12)).astype(np.float32)}


CASES = {
    "symmetric": (stored_int(8), 15),
    "asymmetric": (stored_int(8, symmetric=False), 15),
    "per tensor, fp16": (stored_int(8, weights="tensor", float_type="fp16"), 12),
    "int16": (stored_int(16), 30),
    "inputs": (fixed_inputs(8, precision="q"), 15),
    "inputs asymmetric": (fixed_inputs(8, precision="q", symmetric=False), 15),
    "fp16": (float_numerics("fp16"), 45),
    "bf16": (float_numerics("bf16"), 30),
}


@pytest.fixture(scope="module")
def wide():
    model, feeds = wide_net()
    return model, feeds, seen_ranges(model, feeds), every_tensor(model, feeds)


@pytest.mark.parametrize("case", CASES)
def test_every_operator(wide, case):
    model, feeds, ranges, want = wide
    numerics, bar = CASES[case]
    made = quantize(model, numerics, ranges)
    assert [n.node for n in made.nodes] == [n.name for n in model.proto.graph.node]
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = runner.run(feeds, runner.layers())
        assert set(runner.run(feeds)) == {"y", "z"}
    for name in ("excited", "up", "pooled", "y", "z"):
        error = np.sum((got[name] - want[name]) ** 2.0) / np.sum(want[name] ** 2.0)
        assert -10 * np.log10(error) > bar, name
    if numerics.dataflow == "stored" and numerics.quantized:
        floats = {n.op_type for n in made.nodes if n.precision != numerics.precision}
        assert floats == {"LayerNormalization", "Softmax", "PRelu", "ArgMax"}
        assert sum("PRelu" in note for note in made.notes) == 1

"""The reference's MLU arithmetic, bit by bit, against the CNNL guide's formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import ReferenceRunner
from accel.calibration import Range
from accel.options import BuildOptions
from accel.plugins import Registry
from accel_mlu.options import numerics, read_options
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from plugins.fakes import mlu_numpy
from plugins.fakes.mlu_numpy import Mode
from support.networks import network

FIXED = ("qint8_mixed_float16", "qint8_mixed_float32", "qint16_mixed_float16", "qint16_mixed_float32")
KINDS = ("normal", "outlier", "extreme", "ties", "zero", "tiny", "one_sided")
TARGET = Registry().target("mlu370-s4")


@pytest.mark.parametrize(
    ("bits", "absmax", "position", "scale"),
    [(8, 1.0, -6, 1.984375), (16, 2.0, -13, 1.99993896), (8, 3.7, -5, 1.07263514), (8, 0.0, 0, 1.0)],
)
def test_worked_values_symmetric(bits: int, absmax: float, position: int, scale: float) -> None:
    found = mlu_numpy.symmetric(absmax, bits)
    assert found.position == position
    assert float(found.scale) == pytest.approx(scale, rel=6e-8)


@pytest.mark.parametrize(
    ("low", "high", "position", "scale", "offset", "codes"),
    [(-2, 1, -6, 1.328125, 42, {0.0: 42, -1.5: -86, 0.4: 76}), (0, 6, -5, 1.328125, -128, {0.4: -111})],
)
def test_worked_values_asymmetric(low, high, position, scale, offset, codes) -> None:
    found = mlu_numpy.asymmetric(low, high, 8)
    assert (found.position, float(found.scale), found.offset) == (position, scale, offset)
    assert {x: int(mlu_numpy.quantize(np.float32(x), found)) for x in codes} == codes


@given(st.floats(2.0**-100, 2.0**100, width=32), st.sampled_from([8, 16]))
def test_position_is_never_one_off(absmax: float, bits: int) -> None:
    position = mlu_numpy.position_only(absmax, bits).position
    assert 2.0 ** (bits - 2) <= absmax / 2.0**position < 2.0 ** (bits - 1)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1), st.sampled_from([8, 16]), st.booleans())
def test_codes_are_half_a_step_off_at_most(values: list[float], bits: int, asymmetric: bool) -> None:
    x = np.asarray(values, np.float32)
    low, high = float(x.min()), float(x.max())
    assume(max(-low, high) == 0 or max(-low, high) > 2.0**-100)  # the codes a unit must fit float32
    made = mlu_numpy.asymmetric(low, high, bits) if asymmetric else mlu_numpy.symmetric(max(-low, high), bits)
    step = 1 / float(made.inverse)
    off = np.abs(mlu_numpy.dequantize(mlu_numpy.quantize(x, made), made).astype(np.float64) - x)
    # The offset itself is rounded: an asymmetric range may end half a step early.
    assert off.max() <= step * (1.0001 if asymmetric else 0.5001) + np.abs(x).max() * 1e-6


def tensor(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random and adversarial values."""
    if kind == "extreme":
        x = rng.choice([-1.0, 1.0], shape)
    elif kind == "ties":
        x = rng.integers(-255, 256, shape) / 254
    elif kind == "zero":
        x = np.zeros(shape)
    elif kind == "tiny":
        x = rng.normal(0, 1e-5, shape)
    else:
        x = rng.normal(0, 1, shape)
    if kind == "outlier":
        x.flat[0] = 300.0
    return np.abs(x).astype(np.float32) if kind == "one_sided" else x.astype(np.float32)


def agree(model, feeds, precision: str, asymmetric: bool, per_axis: bool, ranges) -> None:
    """The reference and the NumPy model give the same bits."""
    options = {
        "activation_quant_algo": "asymmetric" if asymmetric else "symmetric",
        "weight_quant_granularity": "per_axis" if per_axis else "per_tensor",
    }
    asked = BuildOptions(precision=precision, set=options)
    chip = numerics(TARGET, precision, read_options(TARGET, asked))
    made = quantize(model, chip, {n: Range(*r) for n, r in ranges.items()})
    assert all(n.precision == precision for n in made.nodes)
    mode = Mode.of(precision, asymmetric=asymmetric, per_axis=per_axis)
    want = mlu_numpy.run_graph(model.proto, feeds, mode, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        for name, got in runner.run(feeds).items():
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, want[name])


def spread(x: np.ndarray) -> tuple[float, float]:
    return float(x.min()), float(x.max())


MODES = {
    "seed": st.integers(0, 2**32 - 1),
    "precision": st.sampled_from(FIXED),
    "asymmetric": st.booleans(),
    "per_axis": st.booleans(),
    "kinds": st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
}


@settings(deadline=None, max_examples=400)
@example(  # an odd offset of 16 bits
    seed=0,
    precision="qint16_mixed_float16",
    asymmetric=True,
    per_axis=False,
    kinds=("outlier", "normal"),
    form="plain",
    stride=1,
    clip=0.3,
)
@given(
    **MODES,
    form=st.sampled_from(["plain", "depthwise", "grouped", "pointwise", "one_dimension"]),
    stride=st.sampled_from([1, 2]),
    clip=st.sampled_from([1.0, 0.3]),
)
def test_convolution(seed, precision, asymmetric, per_axis, kinds, form, stride, clip) -> None:
    rng = np.random.default_rng(seed)
    rank = 1 if form == "one_dimension" else 2
    group = {"depthwise": 8, "grouped": 2}.get(form, 1)
    side = 1 if form == "pointwise" else 3
    x = tensor(rng, kinds[0], (2, 8, *[9] * rank))
    w = tensor(rng, kinds[1], (8, 8 // group, *[side] * rank))
    b = tensor(rng, "normal", (8,))
    attrs = {"group": group, "strides": [stride] * rank, "pads": [side // 2] * 2 * rank}
    out = [(9 - 1) // stride + 1] * rank
    model = network([("Conv", ["x", "w", "b"], ["y"], attrs)], {"x": x.shape}, {"y": (2, 8, *out)}, {"w": w, "b": b})
    low, high = spread(x)
    agree(model, {"x": x}, precision, asymmetric, per_axis, {"x": (low * clip, high * clip)})


@settings(deadline=None, max_examples=40)
@given(**MODES, group=st.sampled_from([1, 2]), stride=st.sampled_from([1, 2]))
def test_deconvolution(seed, precision, asymmetric, per_axis, kinds, group, stride) -> None:
    rng = np.random.default_rng(seed)
    x, w = tensor(rng, kinds[0], (1, 4, 5, 6)), tensor(rng, kinds[1], (4, 3, 3, 3))
    attrs = {"group": group, "strides": [stride] * 2, "pads": [1, 0, 1, 1]}
    out = (1, 3 * group, 4 * stride + 3 - 2, 5 * stride + 3 - 1)
    model = network([("ConvTranspose", ["x", "w"], ["y"], attrs)], {"x": x.shape}, {"y": out}, {"w": w})
    agree(model, {"x": x}, precision, asymmetric, per_axis, {"x": spread(x)})


@settings(deadline=None, max_examples=40)
@given(**MODES, op=st.sampled_from(["Gemm", "MatMul", "activations"]), transposed=st.booleans())
def test_matrix_product(seed, precision, asymmetric, per_axis, kinds, op, transposed) -> None:
    rng = np.random.default_rng(seed)
    if op == "activations":
        a, b = tensor(rng, kinds[0], (2, 5, 33)), tensor(rng, kinds[1], (2, 33, 4))
        model = network([("MatMul", ["a", "b"], ["y"], {})], {"a": a.shape, "b": b.shape}, {"y": (2, 5, 4)})
        ranges = {"a": spread(a), "b": spread(b)}
        agree(model, {"a": a, "b": b}, precision, asymmetric, per_axis, ranges)
        return
    x, w, b = tensor(rng, kinds[0], (3, 40)), tensor(rng, kinds[1], (40, 7)), tensor(rng, "normal", (7,))
    if op == "Gemm":
        node = ("Gemm", ["x", "w", "b"], ["y"], {"transB": int(transposed)})
        model = network([node], {"x": x.shape}, {"y": (3, 7)}, {"w": w.T.copy() if transposed else w, "b": b})
    else:
        model = network([("MatMul", ["x", "w"], ["y"], {})], {"x": x.shape}, {"y": (3, 7)}, {"w": w})
    agree(model, {"x": x}, precision, asymmetric, per_axis, {"x": spread(x)})


@pytest.mark.parametrize("precision", FIXED)
@pytest.mark.parametrize("asymmetric", [False, True])
def test_long_sums_at_the_ends_of_the_range_stay_exact(precision: str, asymmetric: bool) -> None:
    """2304 products of the largest codes: far beyond what float32 sums exactly at 16 bits."""
    rng = np.random.default_rng(7)
    x, w = tensor(rng, "extreme", (1, 256, 4, 4)), tensor(rng, "extreme", (8, 256, 3, 3))
    model = network([("Conv", ["x", "w"], ["y"], {})], {"x": x.shape}, {"y": (1, 8, 2, 2)}, {"w": w})
    agree(model, {"x": x}, precision, asymmetric, True, {"x": (-1.0, 1.0)})
    a, b = tensor(rng, "extreme", (2, 3000)), tensor(rng, "extreme", (3000, 3))
    model = network([("MatMul", ["x", "w"], ["y"], {})], {"x": a.shape}, {"y": (2, 3)}, {"w": b})
    agree(model, {"x": a}, precision, asymmetric, True, {"x": (-1.0, 1.0)})


@pytest.mark.parametrize("precision", FIXED)
def test_a_chain_quantises_its_inner_tensors_from_their_floating_form(precision: str) -> None:
    rng = np.random.default_rng(3)
    x, w, v = (tensor(rng, "normal", s) for s in ((1, 3, 8, 8), (6, 3, 3, 3), (6, 1, 3, 3)))
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"], {}),
        ("Conv", ["r", "v"], ["d"], {"group": 6}),
        ("Add", ["d", "d"], ["y"], {}),
    ]
    model = network(nodes, {"x": x.shape}, {"y": (1, 6, 6, 6)}, {"w": w, "v": v})
    mode = Mode.of(precision)
    ranges = {"x": (-2.5, 2.5), "r": (0.0, 6.0)}
    chip = TARGET.numerics_for(precision)
    made = quantize(model, chip, {n: Range(*r) for n, r in ranges.items()})
    want = mlu_numpy.run_graph(model.proto, {"x": x}, mode, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        for name, got in runner.run({"x": x}, ["c", "r", "d", "y"]).items():
            np.testing.assert_array_equal(got, want[name], err_msg=name)


def test_half_precision_overflows_to_infinity() -> None:
    x = np.full((1, 4), 300.0, np.float32)
    model = network([("Mul", ["x", "x"], ["y"], {})], {"x": x.shape}, {"y": x.shape})
    made = quantize(model, TARGET.numerics_for("force_float16"))
    with ReferenceRunner(made.proto, made.tensors) as runner:
        assert np.isinf(runner.run({"x": x})["y"]).all()
    made = quantize(model, TARGET.numerics_for("force_float32"))
    with ReferenceRunner(made.proto, made.tensors) as runner:
        assert (runner.run({"x": x})["y"] == 90000).all()


@pytest.mark.parametrize("precision", ["force_float16", "qint8_mixed_float16"])
def test_nodes_called_like_their_outputs(precision: str) -> None:
    """Exporters name nodes after their outputs; rounding nodes must not take those names again."""
    x = np.ones((1, 2), np.float32)
    model = network([("Add", ["x", "x"], ["s"], {}), ("Mul", ["s", "s"], ["y"], {})], {"x": x.shape}, {"y": x.shape})
    for node in model.proto.graph.node:
        node.name = node.output[0]
    made = quantize(model, TARGET.numerics_for(precision), {})
    with ReferenceRunner(made.proto, made.tensors) as runner:
        assert (runner.run({"x": x})["y"] == 4).all()

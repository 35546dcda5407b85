"""Folding passes compute what the graph before them computed, on random small graphs and on real networks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from accel.builtin.prepare import PASSES, run_passes, verify
from accel.builtin.prepare.fold import fold_batch_norm, fold_constants
from accel.builtin.prepare.graph import infer
from accel.builtin.prepare.normalise import fold_preprocessing
from accel.errors import AccelError
from accel.model import Model, io_specs
from accel.preprocessing import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from make import MODELS, PREPROCESSING
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A small graph over an input ``x`` of [batch, 4, 9, 9]."""

    def __init__(self, seed: int, shape: tuple[int | str, ...] = ("batch", 4, 9, 9)) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.held: list[onnx.TensorProto] = []

    def constant(self, *shape: int, low: float | None = None) -> str:
        value = self.rng.standard_normal(shape).astype(np.float32)
        return self.value(value if low is None else np.abs(value) + np.float32(low))

    def value(self, value: np.ndarray) -> str:
        name = f"k{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], f"{op.lower()}_{name}", **attributes))
        return name

    def model(self, output: str, opset: int = 17) -> Model:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.held,
        )
        proto = infer(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))
        onnx.checker.check_model(proto, full_check=True)
        return Model(proto, "net", *io_specs(proto))


def ops(model: Model) -> Counter[str]:
    return Counter(n.op_type for n in model.proto.graph.node)


def weighted(b: Builder, kind: str, x: str, *, bias: bool) -> tuple[str, int]:
    """A layer with weights on 4 channels and its number of output channels."""
    if kind == "conv":
        extra = [b.constant(6)] if bias else []
        return b.node("Conv", x, b.constant(6, 4, 3, 3), *extra, pads=[1, 1, 1, 1]), 6
    if kind == "depthwise":
        extra = [b.constant(8)] if bias else []
        return b.node("Conv", x, b.constant(8, 1, 3, 3), *extra, group=4), 8
    if kind == "deconv":
        extra = [b.constant(6)] if bias else []
        return b.node("ConvTranspose", x, b.constant(4, 3, 2, 2), *extra, group=2, strides=[2, 2]), 6
    flat = b.node("Flatten", b.node("GlobalAveragePool", x))
    extra = [b.constant(*[(6,), (1, 6), (1,)][b.rng.integers(3)])] if bias else []
    transposed = int(b.rng.integers(2))
    shape = (6, 4) if transposed else (4, 6)
    return b.node("Gemm", flat, b.constant(*shape), *extra, transB=transposed, alpha=0.5, beta=0.7), 6


def affine(b: Builder, kind: str, x: str, channels: int, rank: int) -> str:
    shape = (channels,) if rank == 2 else (channels, 1, 1)
    if kind == "bn":
        parts = [b.constant(channels) for _ in range(3)]
        return b.node("BatchNormalization", x, *parts, b.constant(channels, low=0.1), epsilon=1e-3)
    if kind == "sub_from":
        return b.node("Sub", b.constant(*shape), x)
    if kind == "mul_scalar":
        return b.node("Mul", x, b.value(np.float32(0.3)))
    if kind == "div":
        return b.node("Div", x, b.constant(*shape, low=0.2))
    return b.node({"mul": "Mul", "add": "Add", "sub": "Sub"}[kind], x, b.constant(*shape))


AFFINE = ["bn", "mul", "add", "sub", "sub_from", "mul_scalar", "div"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    kind=st.sampled_from(["conv", "depthwise", "deconv", "gemm"]),
    bias=st.booleans(),
    steps=st.lists(st.sampled_from(AFFINE), min_size=1, max_size=3),
)
def test_affine_steps_fold_into_the_weights(seed: int, kind: str, bias: bool, steps: list[str]) -> None:
    b = Builder(seed)
    x, channels = weighted(b, kind, "x", bias=bias)
    for step in steps:
        x = affine(b, step, x, channels, 2 if kind == "gemm" else 4)
    model = b.model(x)
    folded = fold_batch_norm(model)
    assert sum(ops(folded).values()) == sum(ops(model).values()) - len(steps)
    assert folded.outputs == model.outputs
    assert verify.difference(model.proto, folded.proto, batch=2) < 1e-4


def test_what_others_read_or_is_no_affine_step_stays() -> None:
    b = Builder(0)
    conv = b.node("Conv", "x", b.constant(4, 4, 1, 1))
    both = b.node("Add", conv, b.node("Mul", conv, b.constant(4, 1, 1)))  # two readers
    wide = b.node("Mul", b.node("Conv", both, b.constant(4, 4, 1, 1)), b.constant(1, 9))  # along the width
    model = b.model(b.node("Div", b.value(np.float32(1)), b.node("Conv", wide, b.constant(4, 4, 1, 1))))
    assert fold_batch_norm(model) is model


def test_an_output_between_is_kept() -> None:
    b = Builder(0)
    conv = b.node("Conv", "x", b.constant(4, 4, 1, 1))
    model = b.model(b.node("Mul", conv, b.constant(4, 1, 1)))
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    proto.graph.output.append(helper.make_tensor_value_info(conv, TensorProto.FLOAT, None))
    model = model.with_proto(infer(proto))
    assert fold_batch_norm(model) is model


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), fixed=st.booleans())
def test_constants_and_fixed_shapes_fold(seed: int, fixed: bool) -> None:
    b = Builder(seed, (2, 4, 9, 9) if fixed else ("batch", 4, 9, 9))
    weight = b.node("Transpose", b.node("Mul", b.constant(3, 3, 4, 5), b.value(np.float32(2))), perm=[3, 2, 0, 1])
    conv = b.node("Conv", "x", weight)
    shape = b.node("Shape", conv)
    flat = b.node(
        "Concat",
        b.node("Slice", shape, b.value(np.array([0])), b.value(np.array([1]))),
        b.value(np.array([-1])),
        axis=0,
    )
    model = b.model(b.node("Reshape", conv, flat))
    folded = fold_constants(model)
    assert verify.difference(model.proto, folded.proto, batch=2) == 0
    assert ops(folded) == (
        {"Conv": 1, "Reshape": 1} if fixed else {"Conv": 1, "Shape": 1, "Slice": 1, "Concat": 1, "Reshape": 1}
    )


def test_a_scalar_stays_a_scalar() -> None:
    b = Builder(0)
    mean = b.node("ReduceMean", b.constant(3, 3), keepdims=0)
    folded = fold_constants(b.model(b.node("Add", "x", b.node("Unsqueeze", mean, b.value(np.array([0]))))))
    scalar = fold_constants(b.model(b.node("Mul", "x", mean)))
    assert [len(i.dims) for i in folded.proto.graph.initializer] == [1]
    assert [len(i.dims) for i in scalar.proto.graph.initializer] == [0]


def test_random_and_huge_constants_do_not_fold() -> None:
    b = Builder(0, (1, 4, 9, 9))
    noise = b.node("RandomNormal", shape=[4, 1, 1])
    huge = b.node("Expand", b.value(np.float32([1])), b.value(np.array([2**27])))
    model = b.model(b.node("Mul", b.node("Add", "x", noise), b.node("ReduceMax", huge, keepdims=0)))
    assert ops(fold_constants(model)) == ops(model)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    group=st.sampled_from([1, 2, 4]),
    padded=st.booleans(),
    bias=st.booleans(),
    other=st.booleans(),
    scale=st.sampled_from([1.0, 1 / 255, 2.0]),
    mean=st.sampled_from([(0.0,), (127.0,), (0.1, 0.2, 0.3, 0.4)]),
)
def test_preprocessing_moves_inside(
    seed: int, group: int, padded: bool, bias: bool, other: bool, scale: float, mean: tuple[float, ...]
) -> None:
    b = Builder(seed)
    extra = [b.constant(8)] if bias else []
    conv = b.node("Conv", "x", b.constant(8, 4 // group, 3, 3), *extra, group=group, pads=[int(padded)] * 4)
    y = b.node("Add", b.node("ReduceMean", conv), b.node("ReduceMean", "x")) if other else conv
    model = b.model(y)
    how = Preprocessing(scale=scale, mean=mean, std=(0.5, 0.25, 1.5, 2.0))
    inside = fold_preprocessing(model, how)
    pixels = b.rng.integers(0, 256, (2, 4, 9, 9)).astype(np.float32)
    spread = (1, -1, 1, 1)
    normal = (pixels * scale - np.reshape(how.mean, spread)) / np.reshape(how.std, spread)
    (want,) = verify.run(model.proto, {"x": normal.astype(np.float32)})
    (got,) = verify.run(inside.proto, {"x": pixels})
    assert verify.relative(want, got) < 1e-4
    assert ops(inside)["Sub"] == (np.any(mean) and (padded or other))
    assert ops(inside)["Mul"] == other


@pytest.mark.parametrize("name", list(MODELS))
def test_real_networks_keep_their_logits(name: str) -> None:
    proto = infer(MODELS[name]())
    model = Model(proto, name, *io_specs(proto))
    prepared = run_passes(model)
    assert prepared.passes == ("fold_constants", "fold_batch_norm")
    assert ops(prepared)["BatchNormalization"] == 0
    assert verify.difference(model.proto, prepared.proto) <= max(p.bound for p in PASSES)
    inside = fold_preprocessing(prepared, PREPROCESSING[name])
    how = PREPROCESSING[name]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224)).astype(np.float32)
    normal = (pixels * how.scale - np.reshape(how.mean, (-1, 1, 1))) / np.reshape(how.std, (-1, 1, 1))
    (want,) = verify.run(model.proto, {"input": normal.astype(np.float32)})
    (got,) = verify.run(inside.proto, {"input": pixels})
    assert verify.relative(want, got) < 1e-4


def test_preprocessing_that_does_not_fit_is_refused() -> None:
    b = Builder(0)
    model = b.model(b.node("Relu", "x"))
    for bad in (
        Preprocessing(mean=(1.0, 2.0, 3.0)),
        Preprocessing(std=(0.0,)),
        Preprocessing(layout="NHWC", mean=(1, 2)),
    ):
        with pytest.raises(AccelError):
            fold_preprocessing(model, bad)


def test_passes_switch_and_unknown_ones_are_refused() -> None:
    proto = infer(MODELS["mobilenet-v2"]())
    model = Model(proto, "net", *io_specs(proto))
    off = run_passes(model, {"fold_batch_norm": False})
    assert off.digest == model.digest
    assert off.passes == ("fold_constants",)
    with pytest.raises(AccelError) as caught:
        run_passes(model, {"fold_batchnorm": False})
    assert caught.value.code == "usage.pass"
    assert "fold_batch_norm" in caught.value.hints[0]

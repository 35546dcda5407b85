"""Lowering to operator set 11: every rule computes what the newer form computes, and nothing else passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from accel.builtin.prepare import verify
from accel.builtin.prepare.graph import infer
from accel.builtin.prepare.lowering_rules import RULES
from accel.builtin.prepare.opset import lower
from accel.errors import AccelError, ExitCode
from accel.model import Model, io_specs
from make import MODELS
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Node = Callable[..., onnx.NodeProto]
RNG = np.random.default_rng(3)


def model_of(
    nodes: list[onnx.NodeProto], opset: int, held: dict[str, np.ndarray], shape: tuple[int | str, ...] = (2, 4, 6, 6)
) -> Model:
    outputs = [name for name in nodes[-1].output if name]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()],
    )
    proto = infer(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))
    return Model(proto, "net", *io_specs(proto))


def one(
    op: str, opset: int, *inputs: np.ndarray, outputs: int = 1, shape: tuple[int, ...] = (2, 4, 6, 6), **given: object
) -> Model:
    """A model of one node over ``x`` and constant inputs (None: absent)."""
    held = {f"k{i}": v for i, v in enumerate(inputs) if v is not None}
    names = ["x", *(f"k{i}" if v is not None else "" for i, v in enumerate(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], "node", **given)
    return model_of([node], opset, held, shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


NONE: np.ndarray = None  # type: ignore[assignment]
CASES = {
    "squeeze": lambda: one("Squeeze", 13, ints(0), shape=(1, 4, 6)),
    "squeeze all": lambda: one("Squeeze", 21, shape=(1, 4, 1)),
    "unsqueeze": lambda: one("Unsqueeze", 13, ints(0, -1)),
    "reduce sum": lambda: one("ReduceSum", 13, ints(-1, 1), keepdims=0),
    "reduce sum all": lambda: one("ReduceSum", 13, keepdims=0),
    "reduce noop": lambda: one("ReduceSum", 13, noop_with_empty_axes=1),
    "reduce noop empty": lambda: one("ReduceMean", 18, ints(), noop_with_empty_axes=1),
    "reduce mean": lambda: one("ReduceMean", 18, ints(2, 3)),
    "reduce max": lambda: one("ReduceMax", 18, ints(1), keepdims=0),
    "reduce min": lambda: one("ReduceMin", 20, ints(1)),
    "reduce prod": lambda: one("ReduceProd", 18, ints(1)),
    "reduce l1": lambda: one("ReduceL1", 18, ints(1)),
    "reduce l2": lambda: one("ReduceL2", 18, ints(1)),
    "reduce log sum exp": lambda: one("ReduceLogSumExp", 18, ints(1)),
    "reduce sum square": lambda: one("ReduceSumSquare", 18, ints(1)),
    "split": lambda: one("Split", 13, ints(1, 3), outputs=2, axis=1),
    "split equal": lambda: one("Split", 13, outputs=2, axis=3),
    "split parts": lambda: one("Split", 18, outputs=4, axis=-1, num_outputs=4),
    "split uneven": lambda: one("Split", 18, outputs=3, axis=1, num_outputs=3, shape=(2, 7, 3)),
    "softmax last": lambda: one("Softmax", 13),
    "softmax channels": lambda: one("Softmax", 13, axis=1),
    "log softmax first": lambda: one("LogSoftmax", 13, axis=0),
    "hardmax": lambda: one("Hardmax", 13, axis=-2),
    "clip": lambda: one("Clip", 13, np.float32(0), np.float32(0.5)),
    "clip rank 1": lambda: one("Clip", 13, NONE, np.float32([0.5])),
    "batch norm": lambda: one(
        "BatchNormalization", 15, floats(4), floats(4), floats(4), np.abs(floats(4)), epsilon=1e-3, training_mode=0
    ),
    "dropout": lambda: one("Dropout", 13, np.float32(0.5)),
    "pad": lambda: one("Pad", 13, ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(1.5)),
    "pad axes": lambda: one("Pad", 18, ints(1, 2, 0, 3), NONE, ints(-1, 2)),
    "pad reflect": lambda: one("Pad", 19, ints(0, 0, 1, 1, 0, 0, 2, 2), mode="reflect"),
    "reshape": lambda: one("Reshape", 14, ints(2, -1), allowzero=0),
    "reshape allowzero": lambda: one("Reshape", 14, ints(8, 36), allowzero=1),
    "resize scales": lambda: one("Resize", 13, NONE, np.float32([1, 1, 2, 2]), mode="linear"),
    "resize sizes": lambda: one("Resize", 13, NONE, NONE, ints(2, 4, 9, 5), mode="nearest"),
    "resize align": lambda: one(
        "Resize", 18, NONE, np.float32([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "resize axes": lambda: one("Resize", 18, NONE, np.float32([2, 3]), axes=[2, 3], mode="nearest"),
    "resize axes sizes": lambda: one("Resize", 18, NONE, NONE, ints(9, 3), axes=[3, 2], mode="linear"),
    "resize symmetric": lambda: one(
        "Resize",
        19,
        NONE,
        np.float32([1, 1, 2, 2]),
        mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
    ),
    "average pool": lambda: one("AveragePool", 19, kernel_shape=[2, 2], dilations=[1, 1], strides=[2, 2]),
    "max pool": lambda: one("MaxPool", 22, kernel_shape=[3, 3], ceil_mode=1, strides=[2, 2]),
    "shape slice": lambda: model_of(
        [
            helper.make_node("Shape", ["x"], ["s"], "shape", start=1, end=3),
            helper.make_node("Cast", ["s"], ["y"], "cast", to=TensorProto.FLOAT),
        ],
        15,
        {},
        ("batch", 4, 6, 6),
    ),
    "cast": lambda: one("Cast", 19, to=TensorProto.INT32, saturate=1),
    "pow": lambda: one("Pow", 13, ints(2)),
    "greater or equal": lambda: one("GreaterOrEqual", 16, np.float32(0)),
    "less or equal": lambda: one("LessOrEqual", 12, floats(6)),
    "arg max": lambda: one("ArgMax", 13, axis=1, select_last_index=0),
    "gather nd": lambda: one("GatherND", 13, np.array([[0, 1], [1, 2]]), batch_dims=0),
    "hard swish": lambda: one("HardSwish", 14),
    "mish": lambda: one("Mish", 18),
    "celu": lambda: one("Celu", 12, alpha=0.7),
    "gelu": lambda: one("Gelu", 20),
    "gelu tanh": lambda: one("Gelu", 20, approximate="tanh"),
    "layer norm": lambda: one("LayerNormalization", 17, floats(6), floats(6), epsilon=1e-3),
    "layer norm axis": lambda: one("LayerNormalization", 17, floats(4, 6, 6), axis=1),
    "rms norm": lambda: one("RMSNormalization", 23, floats(6)),
    "swish": lambda: one("Swish", 24, alpha=1.5),
    "group norm": lambda: one("GroupNormalization", 21, floats(4), floats(4), num_groups=2),
    "conv": lambda: one("Conv", 22, floats(3, 4, 3, 3), floats(3), pads=[1, 1, 1, 1]),
    "gemm": lambda: one("Gemm", 13, floats(6, 5), floats(5), shape=(3, 6)),
    "identity": lambda: one("Identity", 21),
    "where": lambda: one("Max", 13, floats(6)),
}


@pytest.mark.parametrize("case", CASES)
def test_lowered_form_computes_the_same(case: str) -> None:
    model = CASES[case]()
    low = lower(model, 11)
    assert [i.version for i in low.proto.opset_import] == [11]
    assert low.proto.ir_version <= 9
    assert [o.name for o in low.outputs] == [o.name for o in model.outputs]
    onnx.checker.check_model(low.proto, full_check=True)
    feeds = verify.random_inputs(model.inputs, batch=2)
    wanted = ReferenceEvaluator(model.proto).run(None, feeds)
    # Old kernels differ in the last bits; a wrong form differs in the first.
    for a, b in zip(wanted, verify.run(low.proto, feeds), strict=True):
        assert verify.relative(np.asarray(a), b) < 2e-6


def test_lowering_to_another_set() -> None:
    model = CASES["rms norm"]()
    for target in (22, 18, 17, 13):
        assert verify.difference(model.proto, lower(model, target).proto) < 1e-6


def test_every_rule_has_a_case() -> None:
    tested = {n.op_type for make in CASES.values() for n in make().proto.graph.node}
    assert set(RULES) - {"ReduceLogSum", "Constant"} <= tested


def test_constants_of_newer_kinds() -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], "k", value_floats=[1.0, 2.0]),
        helper.make_node("Mul", ["x", "k"], ["y"], "mul"),
    ]
    model = model_of(nodes, 13, {}, (3, 2))
    assert verify.difference(model.proto, lower(model, 11).proto) == 0


@pytest.mark.parametrize("name", list(MODELS))
def test_real_networks_are_lowered_exactly(name: str) -> None:
    proto = infer(MODELS[name]())
    model = Model(proto, name, *io_specs(proto))
    low = lower(model, 11)
    assert verify.difference(model.proto, low.proto) == 0
    assert low.passes[-1] == "opset=11"
    bounds = {i.name: len(i.dims) for i in low.proto.graph.initializer}
    assert {bounds[n.input[2]] for n in low.proto.graph.node if n.op_type == "Clip"} == {0}


def test_clip_bounds_become_scalars() -> None:
    low = lower(CASES["clip rank 1"](), 11)
    bound = next(n.input[2] for n in low.proto.graph.node if n.op_type == "Clip")
    assert [len(i.dims) for i in low.proto.graph.initializer if i.name == bound] == [0]


def test_an_older_model_keeps_its_set() -> None:
    model = one("Relu", 9)
    assert [i.version for i in lower(model, 11).proto.opset_import] == [9]


@pytest.mark.parametrize(
    "make",
    [
        lambda: one("Softmax", 13, axis=1, shape=(2, 4)),  # fine, to show the refusals are not for everything
        lambda: one("Einsum", 12, floats(6, 2), equation="abcd,de->abce"),
        lambda: one("Pad", 19, ints(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"),
        lambda: one("AveragePool", 19, kernel_shape=[2, 2], dilations=[2, 2]),
        lambda: one("Resize", 18, NONE, np.float32([1, 1, 0.5, 0.5]), mode="linear", antialias=1),
        lambda: one("ArgMax", 13, axis=1, select_last_index=1),
        lambda: one("GatherND", 13, np.array([[[0]], [[1]]]), batch_dims=1),
        lambda: one("LayerNormalization", 17, floats(6), outputs=2),
        lambda: one("BitwiseNot", 18),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(make: Callable[[], Model], request: pytest.FixtureRequest) -> None:
    if "BitwiseNot" in str(make.__code__.co_consts):
        model = model_of(
            [
                helper.make_node("Cast", ["x"], ["c"], "cast", to=TensorProto.INT32),
                helper.make_node("BitwiseNot", ["c"], ["y0"], "node"),
            ],
            18,
            {},
        )
    else:
        model = make()
    if model.proto.graph.node[0].op_type == "Softmax":
        lower(model, 11)
        return
    with pytest.raises(AccelError) as caught:
        lower(model, 11)
    assert caught.value.code == "unsupported.opset"
    assert caught.value.exit_code == ExitCode.UNSUPPORTED
    assert caught.value.node == "node"


def test_a_computed_axes_input_is_refused() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"], "nonzero"),
        helper.make_node("Slice", ["n", "zero", "one_", "zero"], ["s"], "slice"),
        helper.make_node("Reshape", ["s", "flat"], ["axes"], "flat"),
        helper.make_node("ReduceSum", ["x", "axes"], ["y"], "node"),
    ]
    held = {"zero": ints(0), "one_": ints(1), "flat": ints(-1)}
    with pytest.raises(AccelError) as caught:
        lower(model_of(nodes, 13, held, (2, 3)), 11)
    assert "constant" in caught.value.cause

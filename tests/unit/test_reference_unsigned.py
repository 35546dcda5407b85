"""Which tensors have codes without a sign, shared steps of concatenated ones, and what build options change."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from accel.builtin.reference.concat import shared_ranges
from accel.builtin.reference.elementwise import Bounds
from accel.builtin.reference.graph import Source, Writer
from accel.builtin.reference.requantize import rounded_split, split_term
from accel.builtin.reference.schemes import activation_grid
from accel.builtin.reference.unsigned import unsigned_tensors
from accel.calibration import Range
from accel.target import Numerics, OptionSpec, QuantScheme, Target
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = {
    "one": np.ones((4, 4, 1, 1)),
    "two": np.ones((4, 8, 1, 1)),
    "depth": np.ones((4, 1, 1, 1)),
    "zero": np.zeros(()),
    "six": np.float32(6),
    "minus": np.float32(-1),
}


def conv(x: str, y: str, weight: str = "one", **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, weight], [y], **attributes)


def op(kind: str, inputs: str, y: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [y], **attributes)


def proto(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4, 4])
    last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in WEIGHTS.items()]
    return helper.make_model(helper.make_graph(list(nodes), "n", [value], [last], held))


RELU = (conv("x", "c"), op("Relu", "c", "r"))
POOL = {"kernel_shape": [2, 2]}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ((*RELU, conv("r", "y")), ["r"]),
        ((conv("x", "c"), op("Clip", "c zero six", "r"), conv("r", "y")), ["r"]),
        ((conv("x", "c"), op("Clip", "c minus six", "r"), conv("r", "y")), []),
        ((*RELU, conv("r", "y", "depth", group=4)), []),
        ((*RELU, conv("r", "y", pads=[0, 0, 1, 1])), []),
        ((*RELU, conv("r", "y"), conv("r", "z", "depth", group=4)), []),
        ((*RELU, op("MaxPool", "r", "p", **POOL), conv("p", "y")), ["r", "p"]),
        ((*RELU, op("MaxPool", "r", "p", **POOL), op("Concat", "p x", "t", axis=1), conv("t", "y", "two")), []),
        ((*RELU, conv("r", "d"), op("Add", "d r", "s"), conv("s", "y")), ["r"]),
        ((*RELU, op("Sigmoid", "x", "d"), op("Add", "d r", "s"), conv("s", "y")), []),
        ((conv("x", "c"), conv("x", "d"), op("Add", "c d", "s"), op("Relu", "s", "r"), conv("r", "y")), ["r"]),
        ((op("Relu", "x", "r"), conv("r", "y")), []),
        ((*RELU, op("GlobalAveragePool", "r", "y")), []),
    ],
)
def test_only_between_convolutions(nodes: tuple[onnx.NodeProto, ...], expected: list[str]) -> None:
    assert unsigned_tensors(proto(*nodes)) == expected


def test_concatenated_tensors_share_one_range() -> None:
    nodes = (*RELU, op("MaxPool", "r", "p", **POOL), op("Concat", "p x", "t", axis=1), conv("t", "y", "two"))
    ranges = {"x": Range(-3, 1), "r": Range(0, 2), "p": Range(0, 2), "t": Range(-3, 2), "y": Range(-9, 9)}
    found = shared_ranges(Source(proto(*nodes)), ranges)
    assert {found[n] for n in "xrpt"} == {Range(-3, 2)}
    assert found["y"] == ranges["y"]


def test_a_build_option_changes_the_numerics() -> None:
    option = OptionSpec("codes", "", ("a", "b"), "a", details={"b": {"unsigned_codes": "never"}})
    target = Target("t", "v", "", {"int8": Numerics("int8", details={"other": "x"})}, options=(option,))
    assert target.numerics_for(None, {"codes": "a"}) == target.numerics["int8"]
    assert target.numerics_for("int8", {"codes": "b"}).details == {"other": "x", "unsigned_codes": "never"}


GRID = activation_grid(QuantScheme(rule="step"), Range(-1, 1))


@settings(deadline=None, max_examples=60)
@given(
    ratio=st.floats(2.0**-22, 2.0**-3),
    negative=st.booleans(),
    sums=st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=20),
)
def test_rounded_products_are_those_of_integers(ratio: float, negative: bool, sums: list[int]) -> None:
    writer = Writer()
    name = rounded_split(writer, "x", -ratio if negative else ratio, Bounds(-128, 127), GRID, "y")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in (name,)]
    given_ = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None])
    graph = helper.make_graph(writer.nodes, "n", [given_], values, list(writer.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    got = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.float64(sums)})[0]

    total = 14 - int(np.floor(np.log2(ratio)))
    after = max(k for k in range(total + 1) if 127 * 2.0**k <= ratio * 2.0**total * 32767)
    multiplier = int(np.rint(ratio * 2.0**total)) * (-1 if negative else 1)
    expected = [(((s >> (total - after)) * multiplier) + (1 << (after - 1))) >> after for s in sums]
    assert got.tolist() == np.clip(expected, -128, 127).tolist()


@given(st.floats(2.0**-12, 1.0))
def test_terms_of_a_sum_have_15_bits(share: float) -> None:
    first, second = split_term(share, 1.0)
    assert 2**14 <= second <= 2**15 and float(np.log2(first)).is_integer()
    assert second / first == pytest.approx(share, rel=2.0**-15)

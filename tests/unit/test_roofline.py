"""The roofline counter: multiply-accumulates and bytes against figures worked out by hand."""

import numpy as np
import onnx
import pytest
from accel.builtin.roofline import Machine, count, predict
from accel.model import Model, io_specs
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: dict[str, tuple[int, ...]],
) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return Model(proto, "m", *io_specs(proto))


CONV = helper.make_node("Conv", ["x", "w"], ["y"], "c", pads=[1, 1, 1, 1])


def test_convolution_with_a_free_batch_counts_one_sample() -> None:
    costs = count(model([CONV], {"x": ["batch", 3, 10, 20]}, ["y"], {"w": (8, 3, 3, 3)}))
    (cost,) = costs.nodes
    assert cost.macs == 8 * 10 * 20 * 3 * 9
    assert (cost.weights, cost.reads, cost.writes) == (8 * 27, (600,), (1600,))
    assert costs.batch == 1


@pytest.mark.parametrize(
    ("node", "shape", "weights", "macs"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], group=8), [2, 8, 6, 6], (8, 1, 3, 3), 2 * 8 * 16 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=2), [1, 8, 6, 6], (4, 4, 3, 3), 4 * 16 * 4 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), [1, 4, 5, 5], (4, 6, 2, 2), 25 * 4 * 24),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), [3, 10], (7, 10), 3 * 70),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [2, 4, 5, 6], (6, 9), 2 * 4 * 5 * 6 * 9),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3),
            [5, 2, 4],
            (1, 12, 4),
            5 * 2 * 12 * (4 + 3),
        ),
        (helper.make_node("Relu", ["x"], ["y"]), [1, 4], (1,), 0),
    ],
)
def test_macs_by_hand(node: onnx.NodeProto, shape: list[int | str], weights: tuple[int, ...], macs: int) -> None:
    more = {"r": (1, 12, 3)} if node.op_type == "LSTM" else {}
    assert count(model([node], {"x": shape}, ["y"], {"w": weights, **more})).macs == macs


def test_two_activations_are_multiplied_too() -> None:
    product = helper.make_node("MatMul", ["a", "b"], ["y"])
    (cost,) = count(model([product], {"a": [1, 3, 4], "b": [1, 4, 5]}, ["y"], {})).nodes
    assert (cost.macs, cost.weights, cost.reads) == (60, 0, (12, 20))


def test_unknown_shapes_are_listed_not_guessed() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["i"], "nz"), helper.make_node("Cast", ["i"], ["y"], "cast", to=1)]
    costs = count(model(nodes, {"x": [2, 3]}, ["y"], {}))
    assert [u.split()[0] for u in costs.unknown] == ["nz", "cast"]


def test_prediction_is_the_larger_of_compute_and_memory() -> None:
    costs = count(model([CONV], {"x": [1, 3, 10, 20]}, ["y"], {"w": (8, 3, 3, 3)}))
    ops, moved = 2 * costs.macs, 600 + 1600 + 216
    slow = predict(costs, Machine(peak=1e6, bandwidth=1e12))
    assert slow.seconds == pytest.approx(ops / 1e6) and slow.layers[0].bound == "compute"
    starved = predict(costs, Machine(peak=1e15, bandwidth=1e3))
    assert starved.seconds == pytest.approx(moved / 1e3) and starved.layers[0].bound == "memory"
    assert starved.layers[0].bytes == moved


def test_batch_shares_weights_and_fills_units() -> None:
    costs = count(model([CONV], {"x": [1, 3, 10, 20]}, ["y"], {"w": (8, 3, 3, 3)}))
    memory = predict(costs, Machine(1e15, 1e3), batch=4)
    assert memory.layers[0].bytes == 4 * 2200 + 216
    one, four, five = (predict(costs, Machine(1e6, 1e12, units=4), batch=b).seconds for b in (1, 4, 5))
    assert one == four == pytest.approx(2 * costs.macs / 1e6 * 4) and five == pytest.approx(2 * one)


def test_tensors_that_fit_stay_on_the_chip() -> None:
    nodes = [CONV, helper.make_node("Relu", ["y"], ["r"]), helper.make_node("Abs", ["r"], ["z"])]
    costs = count(model(nodes, {"x": [1, 3, 10, 20]}, ["z"], {"w": (8, 3, 3, 3)}))
    assert [layer.bytes for layer in predict(costs, Machine(1, 1)).layers] == [600 + 216 + 1600, 3200, 3200]
    assert [layer.bytes for layer in predict(costs, Machine(1, 1, 1600)).layers] == [600 + 216, 0, 1600]

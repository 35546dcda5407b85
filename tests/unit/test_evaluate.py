"""The evaluator over runners: task figures, comparison, layers, stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import pytest
from accel.builtin.evaluate.evaluator import compare, evaluate, evaluate_stages, side_by_side
from accel.builtin.evaluate.float_runner import FloatRunner
from accel.builtin.tasks import make_task
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import Model, io_specs
from accel.options import EvaluateOptions
from onnx import TensorProto, helper, numpy_helper

CLASSES = 7


def network(batch: int | str = "n", gain: float = 1.0) -> Model:
    """hidden = x @ w; y = relu(hidden) * gain."""
    w = np.random.default_rng(0).standard_normal((CLASSES, CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["hidden"], name="fc"),
            helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
            helper.make_node("Mul", ["active", "gain"], ["y"], name="scale"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, CLASSES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.float32(gain), "gain")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return Model(onnx.shape_inference.infer_shapes(proto), "net", *io_specs(proto))


class Data:
    """Random vectors, labelled with the float network's own answer except every fourth."""

    digest = ""
    notes = ("opened by a test",)

    def __init__(self, count: int = 12) -> None:
        rng = np.random.default_rng(1)
        self.samples = []
        with FloatRunner(network()) as runner:
            for at in range(count):
                x = rng.standard_normal((1, CLASSES)).astype(np.float32)
                best = int(np.argmax(runner.run({"x": x})["y"]))
                self.samples.append(Sample(f"s{at}", {"x": x}, (best + 1) % CLASSES if at % 4 == 0 else best))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


class Altered(FloatRunner):
    """The float network with a change to one tensor."""

    provenance = "simulated"
    device = "altered"

    def __init__(self, model: Model, name: str, change: object) -> None:
        super().__init__(model)
        self.name, self.change = name, change

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        found = super().run(feeds, fetch)
        if self.name in found:
            found[self.name] = self.change(found[self.name])  # type: ignore[operator]
        return found


def test_top1_and_an_equal_artifact() -> None:
    report = evaluate(
        FloatRunner(network()), Data(), make_task("classification", {"topk": "2"}), reference=FloatRunner(network())
    )
    assert report.metric("samples").value == 12
    assert report.metric("top1").value == 0.75
    assert report.metric("top1").provenance == "measured"
    assert report.metric("cosine").value == 1
    assert report.metric("sqnr").value == 150
    assert report.metric("max_error").value == 0
    assert report.metric("agreement").value == 1
    assert "opened by a test" in report.notes


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_any_batch_gives_the_same_figures(batch: int) -> None:
    runner = Altered(network(batch), "y", lambda y: y + 0.01)
    report = evaluate(
        runner, Data(), make_task("classification"), EvaluateOptions(layers=True), reference=FloatRunner(network(1))
    )
    assert report.metric("top1").value == 0.75
    assert report.metric("max_error").value == pytest.approx(0.01, rel=1e-4)
    layers = next(t for t in report.tables if t.title == "layers")
    assert [row[0] for row in layers.rows] == ["hidden", "active", "y"]
    assert [row[2] for row in layers.rows][:2] == pytest.approx([1, 1])


def test_the_first_diverging_layer_is_named() -> None:
    runner = Altered(network(), "active", lambda a: -a)
    report = compare(runner, FloatRunner(network()), Data(), layers=True)
    assert any("diverges: active" in note and "0.99" in note for note in report.notes)
    clean = compare(FloatRunner(network()), FloatRunner(network()), Data(), layers=True)
    assert any(note.startswith("no layer diverges") for note in clean.notes)


def test_nan_and_layout_are_told() -> None:
    report = compare(Altered(network(), "y", lambda y: y * np.nan), FloatRunner(network()), Data())
    assert report.metric("cosine").value == 0
    assert report.metric("max_error").value is None
    assert any("NaN or infinity in 12 of 12" in note for note in report.notes)
    report = compare(Altered(network(), "y", lambda y: y.T), FloatRunner(network()), Data())
    assert report.metric("cosine").value is None
    assert any("layout" in note for note in report.notes)


def test_nan_never_wins_top1() -> None:
    report = evaluate(Altered(network(), "y", lambda y: y * np.nan), Data(), make_task("classification"))
    assert report.metric("top1").value == 0
    assert any("no finite score" in note for note in report.notes)


def test_sample_limit_and_nothing_to_do() -> None:
    assert compare(FloatRunner(network()), FloatRunner(network()), Data(), samples=5).metric("samples").value == 5
    with pytest.raises(AccelError, match="nothing to evaluate"):
        evaluate(FloatRunner(network()), Data())
    with pytest.raises(AccelError, match="no sample"):
        evaluate(FloatRunner(network()), Data(0), make_task("classification"))


def test_outputs_that_do_not_match() -> None:
    other = network()
    other.proto.graph.output[0].name = other.proto.graph.node[-1].output[0] = "z"
    other = other.with_proto(other.proto)
    with pytest.raises(AccelError, match="share no output"):
        compare(FloatRunner(other), FloatRunner(network()), Data())


def test_stages_side_by_side() -> None:
    runners = {"float": FloatRunner(network()), "chip": Altered(network(4), "hidden", lambda h: h * 0.5)}
    reports = evaluate_stages(
        runners,
        Data(),
        make_task("classification"),
        EvaluateOptions(layers=True),
        reference=FloatRunner(network()),
    )
    merged = side_by_side(dict(zip(runners, reports, strict=True)))
    assert merged.metric("float/top1").provenance == "measured"
    assert merged.metric("chip/top1").provenance == "simulated"
    table = merged.tables[0]
    assert table.columns == ("metric", "float", "chip")
    assert ("top1", 0.75, 0.75) in table.rows
    assert {row[0] for row in merged.tables[1].rows} == {"hidden", "active", "y"}


def test_the_float_runner_refuses_wrong_feeds() -> None:
    runner = FloatRunner(network(2))
    good = np.zeros((2, CLASSES), np.float32)
    for feeds, word in [
        ({"x": good, "z": good}, "no input 'z'"),
        ({}, "not given"),
        ({"x": good[:1]}, "wrong shape"),
        ({"x": good.astype(np.complex64)}, "wrong dtype"),
    ]:
        with pytest.raises(AccelError, match=word) as caught:
            runner.run(feeds)
        assert caught.value.code == "usage.input"
    with pytest.raises(AccelError, match="nothing"):
        runner.run({"x": good}, ["nothing"])
    assert runner.run({"x": good.astype(np.float64)})["y"].dtype == np.float32
    runner.close()
    runner.close()
    with pytest.raises(AccelError, match="closed"):
        runner.run({"x": good})


def test_the_float_runner_shows_inner_tensors() -> None:
    with FloatRunner(network()) as runner:
        assert runner.layers() == ("hidden", "active")
        found = runner.run({"x": np.eye(CLASSES, dtype=np.float32)}, ["active", "y", "hidden"])
        np.testing.assert_array_equal(found["active"], np.maximum(found["hidden"], 0))
        np.testing.assert_array_equal(found["active"], found["y"])

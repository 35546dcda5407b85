"""The streaming pass measures every activation, the same to the bit however the samples come in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.calibrators import collector
from accel.builtin.calibrators.collector import collect
from accel.builtin.calibrators.measuring import open_session
from accel.builtin.calibrators.packing import RUN, spread
from accel.builtin.calibrators.tensors import plan
from accel.calibration import METHODS, Calibration
from accel.calibration.histogram import Accumulator
from accel.calibration.merging import merge
from accel.calibration.storage import pack
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import Model, io_specs
from accel.options import CalibrateOptions
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

RNG = np.random.default_rng(3)


@dataclass
class Samples:
    """A data set in memory."""

    arrays: list[np.ndarray]
    digest: str = "d" * 64
    names: list[str] = field(default_factory=lambda: ["x"])

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self):
        for at, array in enumerate(self.arrays):
            yield Sample(f"s{at}", dict.fromkeys(self.names, array))


def network(batch: str | int = "batch", size: str | int = 12, weight: float = 1.0) -> Model:
    """Conv + Relu, a shape that is computed, a transpose, a sigmoid, a sum that is clipped, a classifier."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(0, 0.4 * weight, (8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.4, (8, 8, 1, 1)).astype(np.float32),
        "w3": rng.normal(0, 0.4, (8, 5)).astype(np.float32),
        "zero": np.float32(0),
        "six": np.float32(6),
        "half": np.array([0.5], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["conv"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("Conv", ["relu", "w2"], ["conv2"], name="second"),
        helper.make_node("Add", ["conv2", "relu"], ["sum"], name="sum"),
        helper.make_node("Clip", ["sum", "zero", "six"], ["clip"], name="clip"),
        helper.make_node("Shape", ["clip"], ["shape"], name="shape"),
        helper.make_node("Cast", ["shape"], ["shape_float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["shape_float", "half"], ["shape_half"], name="mul"),
        helper.make_node("Neg", ["half"], ["minus"], name="neg"),
        helper.make_node("Transpose", ["clip"], ["turned"], name="turn", perm=[0, 2, 3, 1]),
        helper.make_node("Sigmoid", ["turned"], ["sigmoid"], name="sigmoid"),
        helper.make_node("MatMul", ["sigmoid", "w3"], ["scores"], name="scores"),
        helper.make_node("ArgMax", ["scores"], ["best"], name="best", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("best", TensorProto.INT64, None),
        ]
        + [
            helper.make_tensor_value_info("shape_half", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("minus", TensorProto.FLOAT, None),
        ]
        * isinstance(batch, str),
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    proto = shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    checker.check_model(proto)
    return Model(proto, "net", *io_specs(proto))


def pictures(count: int = 9, size: int = 12) -> list[np.ndarray]:
    # Scales differ, so that ranges double on the way.
    return [RNG.normal(0, 1.5**k, (1, 3, size, size)).astype(np.float32) for k in range(count)]


def tensors_of(model: Model, feed: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return dict(zip(names, open_session(proto).run(None, {"x": feed}), strict=True))


def same(a: Calibration, b: Calibration) -> None:
    assert list(a.tensors) == list(b.tensors)
    assert pack(a)[0] == pack(b)[0]
    for method in METHODS:
        assert a.ranges(method) == b.ranges(method)


def test_plan_takes_activations_only() -> None:
    chosen = plan(network())
    assert chosen.names == ("x", "conv", "relu", "conv2", "sum", "clip", "turned", "sigmoid", "scores")
    assert chosen.same_as == {"conv": "relu", "sum": "clip", "turned": "clip"}
    assert chosen.measured == ("x", "relu", "conv2", "clip", "sigmoid", "scores")
    assert not chosen.dirty


def test_plan_needs_no_types_in_the_file() -> None:
    bare = network().proto
    del bare.graph.value_info[:]
    assert plan(Model(bare, "net", *io_specs(bare))).measured == plan(network()).measured


@pytest.mark.parametrize("per_channel", [True, False])
def test_statistics_are_those_of_the_tensors(per_channel: bool) -> None:
    model, arrays = network(), pictures(5)
    found = collect(model, Samples(arrays), CalibrateOptions(values=0, per_channel=per_channel))
    assert (found.samples, found.model_digest, found.data_digest) == (5, model.digest, "d" * 64)
    names = ["relu", "conv2", "clip", "sigmoid", "scores"]
    seen = [{"x": a, **tensors_of(model, a, names)} for a in arrays]
    for name in ["x", *names]:
        whole = Accumulator(name)
        for one in seen:
            whole.add_range(float(one[name].min()), float(one[name].max()), one[name].size)
            whole.fill(one[name])
        expected, stats = whole.statistics(), found.tensors[name]
        assert (stats.low, stats.high, stats.count, stats.nonfinite, stats.exponent) == (
            expected.low,
            expected.high,
            expected.count,
            0,
            expected.exponent,
        )
        assert stats.positive.tolist() == expected.positive.tolist()
        assert stats.negative.tolist() == expected.negative.tolist()
        both = np.concatenate([one[name] for one in seen])
        if per_channel:
            rest = (0, *range(2, both.ndim))
            assert stats.channel_low is not None and stats.channel_high is not None
            np.testing.assert_array_equal(stats.channel_low, both.min(axis=rest))
            np.testing.assert_array_equal(stats.channel_high, both.max(axis=rest))
        else:
            assert stats.channel_low is None
    assert found.tensors["conv"].high == found.tensors["relu"].high
    assert found.tensors["sum"].name == "sum"


@pytest.mark.parametrize("values", [0, 64])
def test_order_batch_halves_and_threads_do_not_show(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, arrays = network(), pictures()
    options = CalibrateOptions(values=values)
    one = collect(model, Samples(arrays), options)
    for method in METHODS:
        assert all(r.threshold > 0 for r in one.ranges(method).values())
    shuffled = [arrays[i] for i in RNG.permutation(len(arrays))]
    same(one, collect(model, Samples(shuffled), options))
    batched = collect(model, Samples([np.concatenate(arrays[:8]), arrays[8]]), options)
    assert batched.samples == 2
    assert batched.ranges("kl") == one.ranges("kl")
    same(Calibration(one.model_digest, one.data_digest, 9, batched.tensors, values), one)
    first = collect(model, Samples(arrays[:4], "1" * 64), options)
    second = collect(model, Samples(arrays[4:], "2" * 64), options)
    joined = merge(second, first)
    same(Calibration(one.model_digest, one.data_digest, joined.samples, joined.tensors, values), one)
    for cores in (1, 8):
        monkeypatch.setattr(collector, "_cores", lambda cores=cores: cores)
        same(one, collect(model, Samples(arrays), options))


def test_a_part_of_the_values_is_spread_over_the_tensor() -> None:
    values = np.arange(40 * 28 * 28, dtype=np.float32).reshape(1, 40, 28, 28)
    kept = spread(values, 4096)
    assert 0.8 * 4096 < kept.size <= 4096
    assert np.bincount(kept.astype(int).reshape(-1) // 784, minlength=40).min() > 0  # every channel
    columns = np.bincount(kept.astype(int).reshape(-1) % 28, minlength=28)
    assert columns.min() > 0.9 * columns.max()
    assert spread(values, 0).size == values.size
    assert spread(values[:, :, :3, :3], 4096).size == 360
    assert spread(np.zeros((1, 50000), np.float32), 1000).size <= 1000 + RUN


def test_shapes_may_vary() -> None:
    model = network(size="side")
    small, large = pictures(2, 9), pictures(2, 21)
    one = collect(model, Samples([*small, *large]), CalibrateOptions(values=64))
    same(one, collect(model, Samples([large[1], small[0], large[0], small[1]]), CalibrateOptions(values=64)))
    assert one.tensors["x"].count == 2 * 3 * (81 + 441)


def test_a_fixed_batch_is_measured_row_by_row() -> None:
    arrays = pictures(4)
    fixed = network(batch=2)
    found = collect(fixed, Samples([np.concatenate(arrays[:2]), np.concatenate(arrays[2:])]), CalibrateOptions())
    free = collect(network(), Samples(arrays), CalibrateOptions())
    assert found.model_digest == fixed.digest
    assert found.ranges("kl") == free.ranges("kl")


def test_samples_limits() -> None:
    found = collect(network(), Samples(pictures(5)), CalibrateOptions(samples=2))
    assert found.samples == 2
    assert found.tensors["x"].count == 2 * 3 * 144


def test_nan_is_counted_not_binned() -> None:
    arrays = pictures(3)
    arrays[1] = arrays[1].copy()
    arrays[1][0, 0, 5, 5] = np.nan
    arrays[1][0, 1, 2, 3] = np.inf
    found = collect(network(), Samples(arrays), CalibrateOptions(values=0)).tensors["x"]
    clean = np.concatenate([a.reshape(-1) for a in arrays])
    clean = clean[np.isfinite(clean)]
    assert (found.nonfinite, found.count) == (2, len(clean))
    assert (found.low, found.high) == (clean.min(), clean.max())
    assert found.positive.sum() + found.negative.sum() == len(clean)
    assert found.channel_high is not None and np.isfinite(found.channel_high).all()


def test_nan_weights_name_the_node() -> None:
    with pytest.raises(AccelError) as caught:
        collect(network(weight=float("nan")), Samples(pictures(2)), CalibrateOptions())
    # Relu and what follows may swallow NaN; the first tensor without a number is named.
    assert caught.value.code == "calibration.nonfinite"
    assert caught.value.node in ("first", "relu", "second")


def refused(dataset: Samples, options: CalibrateOptions | None = None, model: Model | None = None) -> AccelError:
    with pytest.raises(AccelError) as caught:
        collect(model or network(), dataset, options or CalibrateOptions())
    return caught.value


def test_bad_samples_are_named() -> None:
    good = pictures(1)
    error = refused(Samples([*good, np.zeros((1, 3, 11, 12), np.float32)]))
    assert (error.code, "s1" in error.summary, "(1, 3, 11, 12)" in error.cause) == ("data.sample", True, True)
    error = refused(Samples([np.zeros((1, 3, 12, 12))]))
    assert error.code == "data.sample"
    assert "float64" in error.cause and "float32" in error.cause
    error = refused(Samples(good, names=["y"]))
    assert "'y'" in error.cause and "'x'" in error.cause
    assert refused(Samples([np.zeros((3, 12, 12), np.float32)])).code == "data.sample"
    assert refused(Samples([])).code == "data.empty"


def test_resume_refuses_what_does_not_belong(tmp_path: Path) -> None:
    path = tmp_path / "part"
    arrays = pictures(4)
    whole = CalibrateOptions(resume=path)
    collect(network(), Samples(arrays), whole)
    assert refused(Samples(arrays, "e" * 64), whole).code == "calibration.mismatch"
    assert refused(Samples(arrays), whole, network(size="n")).code == "calibration.mismatch"
    assert refused(Samples(arrays), CalibrateOptions(resume=path, values=7)).code == "calibration.mismatch"
    assert refused(Samples(arrays), CalibrateOptions(resume=path, samples=2)).code == "calibration.mismatch"
    path.write_bytes(b"accelcal")
    assert refused(Samples(arrays), whole).code == "calibration.unreadable"


def test_an_error_midway_keeps_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "SAVE_SECONDS", 0.0)
    options = CalibrateOptions(resume=tmp_path / "part")
    arrays = pictures(6)
    broken = Samples([*arrays[:4], np.zeros((1, 3, 1, 1), np.float32), *arrays[5:]])
    assert refused(broken, options).code == "data.sample"
    assert Calibration.load(tmp_path / "part").samples == 4
    same(collect(network(), Samples(arrays), options), collect(network(), Samples(arrays), CalibrateOptions()))


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_calibration_collector as t
from accel.builtin.calibrators import collector
collector.SAVE_SECONDS = 0.0
class Slow(t.Samples):
    def __iter__(self):
        for sample in super().__iter__():
            time.sleep({pause})
            yield sample
found = collector.collect(t.network(), Slow(t.pictures(30)), t.CalibrateOptions(resume=Path({path!r}), values=64))
found.save(Path({out!r}))
"""


def test_killed_and_resumed(tmp_path: Path) -> None:
    part, out = tmp_path / "part", tmp_path / "out"

    def script(pause: float) -> list[str]:
        tests = str(Path(__file__).parent)
        return [sys.executable, "-c", KILLED.format(tests=tests, pause=pause, path=str(part), out=str(out))]

    for _ in range(2):
        before = Calibration.load(part).samples if part.exists() else 0
        process = subprocess.Popen(script(0.05))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if part.exists() and Calibration.load(part).samples > before + 2:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not out.exists()
        assert before + 2 < Calibration.load(part).samples < 30
    subprocess.run(script(0), check=True, timeout=60)
    resumed = Calibration.load(out)
    part.unlink()
    out.unlink()
    subprocess.run(script(0), check=True, timeout=60)
    same(resumed, Calibration.load(out))
    assert resumed.samples == 30

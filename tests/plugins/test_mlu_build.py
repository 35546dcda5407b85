"""MLU builds on the reference: options that change the arithmetic, refusals, overflow, check."""

from __future__ import annotations

import numpy as np
import pytest
from accel import driver, progress
from accel.calibration import Calibration
from accel.calibration.histogram import Accumulator
from accel.errors import AccelError
from accel.options import BuildOptions, RunOptions
from support.networks import every_tensor, network, residual_net

NET, FEEDS = residual_net()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    tensors = {}
    for name, value in every_tensor(NET, FEEDS).items():
        seen = Accumulator(name)
        seen.add_range(float(value.min()), float(value.max()), value.size)
        seen.fill(value.reshape(-1))
        tensors[name] = seen.statistics()
    return Calibration(driver.prepare(NET).digest, "data", 1, tensors)


def build(tmp_path, calibration, target="mlu370-s4", name="out", **options):
    asked = BuildOptions(**{"backend": "reference", **options})
    return driver.build(NET, target, tmp_path / name, asked, calibration=calibration)


def outputs(artifact) -> np.ndarray:
    with driver.run(artifact) as runner:
        return next(iter(runner.run(FEEDS).values()))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("target", ["mlu370-s4", "mlu220", "mlu270", "mlu290", "ce3226", "mlu590"])
def test_every_chip_and_precision_builds_and_runs(tmp_path, calibration, target) -> None:
    with driver.run_float(NET) as runner:
        want = next(iter(runner.run(FEEDS).values()))
    for precision in driver.resolve(target).numerics:
        made = build(tmp_path, calibration, target, name=precision, precision=precision)
        assert cosine(outputs(made), want) > (0.99 if "int8" in precision else 0.9999), precision


def test_options_change_the_arithmetic_and_are_in_the_manifest(tmp_path, calibration) -> None:
    plain = build(tmp_path, calibration, precision="int8")
    results = [outputs(plain)]
    for name, value in (
        ("activation_quant_algo", "asymmetric"),
        ("weight_quant_granularity", "per_tensor"),
    ):
        made = build(tmp_path, calibration, name=name, precision="int8", set={name: value})
        assert f"{name}={value}" in made.manifest.options["set"]
        results.append(outputs(made))
    assert len({r.tobytes() for r in results}) == 3


def test_wrong_options_name_the_right_ones(tmp_path, calibration) -> None:
    for wrong in ({"activation_quant": "x"}, {"weight_quant_granularity": "per_channel"}):
        with pytest.raises(AccelError) as caught:
            build(tmp_path, calibration, precision="int8", set=wrong)
        assert caught.value.exit_code == 2 and caught.value.hints
    with pytest.raises(AccelError, match="script"):
        build(tmp_path, calibration, precision="int8", set={"emit_script": "yes"})


def test_a_float_convolution_on_mlu270_is_refused_with_the_reason(tmp_path, calibration) -> None:
    with pytest.raises(AccelError) as caught:
        build(tmp_path, calibration, "mlu270", precision="fp16")
    assert "fixed point only" in caught.value.cause
    node = NET.proto.graph.node[0].name
    with pytest.raises(AccelError) as caught:
        build(tmp_path, calibration, "mlu270", precision="int8", node_precisions={node: "fp32"})
    assert "fixed point only" in caught.value.cause and caught.value.exit_code == 3


def test_check_says_where_each_node_computes() -> None:
    found = {n.op_type: n for n in driver.check(NET, "mlu270", BuildOptions(precision="int8"))}
    assert found["Conv"].place == "mlu270 qint8_mixed_float16" and found["Conv"].reason == ""
    assert found["Sigmoid"].place == "mlu270 fp16" and "fp16" in found["Sigmoid"].reason
    dynamic = network([("Conv", ["x", "w"], ["y"], {})], {"x": (1, 2, 4, 4), "w": (3, 2, 1, 1)}, {"y": (1, 3, 4, 4)})
    (conv,) = driver.check(dynamic, "mlu270", BuildOptions(precision="int8"))
    assert not conv.supported and "constant" in conv.reason
    (conv,) = driver.check(dynamic, "mlu370-s4", BuildOptions(precision="int8"))
    assert conv.supported and "float" in conv.reason


class Said:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def start(self, label, total):
        return None

    def advance(self, token, done, total, note):
        return None

    def finish(self, token):
        return None

    def message(self, text):
        self.messages.append(text)


def test_overflow_is_counted_and_its_first_node_named(tmp_path) -> None:
    nodes = [
        ("Mul", ["x", "x"], ["square"], {}),
        ("Relu", ["square"], ["kept"], {}),
        ("Clip", ["kept", "", "six"], ["y"], {}),
    ]
    net = network(nodes, {"x": (1, 8)}, {"y": (1, 8)}, {"six": np.float32(6)})
    feeds = {"x": np.array([[1, 2, 300, 4, -400, 6, 7, 8]], np.float32)}
    made = driver.build(net, "mlu370-s4", tmp_path / "out", BuildOptions(precision="fp16", backend="reference"))
    said = Said()
    with progress.use_sink(said), driver.run(made, RunOptions()) as runner:
        assert np.isfinite(runner.run(feeds)["y"]).all()  # hidden by the clip, and said all the same
        assert runner.found.values == 4 and runner.found.first == "square"
    (message,) = said.messages
    assert "4 values in 2 tensors" in message and "'mul_0'" in message
    other = driver.build(net, "mlu370-s4", tmp_path / "f32", BuildOptions(precision="fp32", backend="reference"))
    said = Said()
    with progress.use_sink(said), driver.run(other) as runner:
        runner.run(feeds)
    assert said.messages == []

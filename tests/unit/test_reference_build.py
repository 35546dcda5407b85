"""The hooks of the reference: build, run, check, through the contract."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from accel.artifacts import read_artifact
from accel.builtin.reference import plugin
from accel.errors import AccelError
from accel.numerics import float_numerics, stored_int
from accel.options import BuildOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel.target import Target
from support.networks import every_tensor, residual_net, seen_ranges

TOY = Target("toy", "acme", "a toy", {"int8": stored_int(8), "fp16": float_numerics("fp16")})


@pytest.fixture
def net():
    model, feeds = residual_net()
    ranges = seen_ranges(model, feeds)
    calibration = SimpleNamespace(
        model_digest=model.digest, data_digest="d", tensors={}, ranges=lambda method, bits, symmetric: ranges
    )
    return model, feeds, calibration


def build(net, tmp_path, **options):
    model, _, calibration = net
    tmp_path.mkdir(exist_ok=True)
    return plugin.accel_build(model, TOY, BuildOptions(method="minmax", **options), calibration, tmp_path)


def test_build_and_run_int8(net, tmp_path):
    model, feeds, _ = net
    artifact = build(net, tmp_path)
    manifest = read_artifact(artifact.path).manifest
    assert (manifest.target, manifest.backend, manifest.payload) == ("toy", "reference", "reference")
    assert len(manifest.nodes) == len(model.proto.graph.node)
    with plugin.accel_run(artifact, RunOptions()) as runner:
        got = runner.run(feeds)["y"]
    want = every_tensor(model, feeds)["y"]
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.99
    assert runner.provenance == "simulated"


def test_same_input_same_bytes(net, tmp_path):
    digests = set()
    for name in "ab":
        artifact = build(net, tmp_path / name)
        files = [artifact.path / e.path for e in artifact.manifest.files]
        digests.add(tuple(hashlib.sha256(f.read_bytes()).hexdigest() for f in files))
    assert len(digests) == 1


def test_several_batches(net, tmp_path):
    _, feeds, _ = net
    artifact = build(net, tmp_path, batches=(1, 3))
    with plugin.accel_run(artifact, RunOptions(batch=3)) as runner:
        three = runner.run({"x": np.concatenate([feeds["x"]] * 3)})["y"]
    with plugin.accel_run(artifact, RunOptions()) as runner:
        one = runner.run(feeds)["y"]
    np.testing.assert_array_equal(three, np.concatenate([one] * 3))
    with pytest.raises(AccelError) as caught:
        plugin.accel_run(artifact, RunOptions(batch=2))
    assert caught.value.code == "usage.batch"


def test_quantised_build_wants_a_matching_calibration(net, tmp_path):
    model, _, calibration = net
    with pytest.raises(AccelError) as caught:
        plugin.accel_build(model, TOY, BuildOptions(), None, tmp_path)
    assert caught.value.code == "usage.calibration"
    calibration.model_digest = "other"
    with pytest.raises(AccelError) as caught:
        plugin.accel_build(model, TOY, BuildOptions(), calibration, tmp_path)
    assert caught.value.code == "calibration.mismatch"


def test_float_precision_needs_none(net, tmp_path):
    model, feeds, _ = net
    artifact = plugin.accel_build(model, TOY, BuildOptions(precision="fp16"), None, tmp_path)
    with plugin.accel_run(artifact, RunOptions()) as runner:
        got = runner.run(feeds)["y"]
    want = every_tensor(model, feeds)["y"]
    assert 0 < np.abs(got - want).max() < 0.01
    np.testing.assert_array_equal(got, got.astype(np.float16).astype(np.float32))


def test_normalisation_inside(net, tmp_path):
    _, feeds, _ = net
    pixels = np.random.default_rng(0).integers(0, 256, feeds["x"].shape).astype(np.float32)
    declared = Preprocessing(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2,))
    (tmp_path / "plain").mkdir()
    plain = build(net, tmp_path / "plain", preprocessing=declared)
    folded = build(net, tmp_path / "folded", preprocessing=declared, fold_preprocessing=True)
    assert folded.manifest.preprocessing.folded and not plain.manifest.preprocessing.folded
    x = (pixels * np.float32(1 / 255) - np.float32([0.4, 0.5, 0.6]).reshape(3, 1, 1)) / np.float32(0.2)
    with plugin.accel_run(plain, RunOptions()) as runner:
        want = runner.run({"x": x})["y"]
    with plugin.accel_run(folded, RunOptions()) as runner:
        np.testing.assert_array_equal(runner.run({"x": pixels})["y"], want)
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path / "none", fold_preprocessing=True)
    assert caught.value.code == "usage.preprocessing"


def test_overflow_seen_in_calibration_is_a_note(net, tmp_path):
    model, _, calibration = net
    calibration.tensors = {"r1": SimpleNamespace(low=0.0, high=1e5, channel_mean=None)}
    artifact = plugin.accel_build(model, TOY, BuildOptions(precision="fp16"), calibration, tmp_path)
    assert "relu_3" in artifact.manifest.notes[0] and "overflow" in artifact.manifest.notes[0]


def test_not_mine(net, tmp_path):
    model, _, calibration = net
    assert plugin.accel_build(model, TOY, BuildOptions(backend="vendor"), calibration, tmp_path) is None
    other = SimpleNamespace(manifest=SimpleNamespace(payload="bmodel"))
    assert plugin.accel_run(other, RunOptions()) is None


def test_broken_payload(net, tmp_path):
    artifact = build(net, tmp_path)
    artifact.file("model").write_bytes(b"\x08" * 10)
    with pytest.raises(AccelError) as caught:
        plugin.accel_run(artifact, RunOptions())
    assert caught.value.code == "artifact.unreadable"


def test_check_says_where_each_node_computes(net):
    model, _, _ = net
    plain = Target("toy", "acme", "", {"int8": stored_int(8, ops=frozenset({"Conv"}))})
    found = {n.node: n for n in plugin.accel_check(model, plain, BuildOptions(node_precisions={"conv_4": "fp16"}))}
    assert found["conv_0"].place == "toy int8" and not found["conv_0"].reason
    assert found["conv_4"].place == "toy fp16"
    assert "fp32" in found["gemm_12"].reason

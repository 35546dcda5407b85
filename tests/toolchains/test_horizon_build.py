"""Networks compiled by Horizon's compiler and run in its simulators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import BuildOptions, RunOptions
from accel.plugins import Registry
from accel.preprocessing import Preprocessing
from accel.toolchain.process import run as run_tool
from accel.toolchain.spec import Environment
from accel_horizon.build import build
from accel_horizon.check import check
from accel_horizon.inspecting import inspect
from accel_horizon.perf import perf
from accel_horizon.runners import HorizonRunner
from toolchains.horizon_nets import calibrated, samples, small_net, tensors

pytestmark = pytest.mark.toolchain("horizon")

FAST = BuildOptions(backend="vendor", opt=1)


def built(folder: Path, target: str = "j5", options: BuildOptions = FAST) -> Artifact:
    model = small_net()
    folder.mkdir(parents=True, exist_ok=True)
    made = build(model, Registry().target(target), options, calibrated(model), folder)  # type: ignore[arg-type]
    assert made is not None
    return made


@pytest.fixture(scope="module")
def artifact(horizon_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return built(tmp_path_factory.mktemp("j5"))


def outputs(artifact: Artifact, stage: str, count: int = 4) -> np.ndarray:
    with HorizonRunner(artifact, RunOptions(simulator=stage)) as runner:
        return np.concatenate([runner.run(feeds)["logits"] for feeds in samples(small_net(), count, seed=5)])


def test_artifact_holds_everything(artifact: Artifact) -> None:
    manifest = artifact.manifest
    roles = {f.role for f in manifest.files}
    stages = {"float", "optimized", "calibrated", "quantized", "host"}
    assert {"model", "bin", "report", "report-html", "data", "log", *stages} <= roles
    assert artifact.file("model").suffix == ".hbm"
    assert manifest.payload == "hbm" and manifest.backend == "vendor"
    assert [n.node for n in manifest.nodes] == [n.name for n in small_net().proto.graph.node]
    by_name = {n.node: n for n in manifest.nodes}
    assert by_name["clip1"].note == "fused into conv1" and by_name["clip1"].precision == "int8"
    assert by_name["sigmoid"].note == "fused into swish" and by_name["sigmoid"].place == "j5"
    assert manifest.versions["hbdk"] == "3.49.15"


def test_our_thresholds_are_the_ones_used(artifact: Artifact) -> None:
    ours = calibrated(small_net()).found
    used = artifact.manifest.details["calibration"]
    assert isinstance(used, dict)
    assert set(used) >= {"data", "r1", "r2", "a", "m"}
    for name, given in used.items():
        assert given["thresholds"][0] == pytest.approx(ours[name].threshold, rel=1e-6)


def test_stages_agree_with_the_float_network(artifact: Artifact) -> None:
    expected = np.concatenate([tensors(small_net(), f)["logits"] for f in samples(small_net(), 4, seed=5)])
    assert np.allclose(outputs(artifact, "float"), expected, atol=1e-4)
    for stage in ("calibrated", "quantized"):
        got = outputs(artifact, stage)
        cosine = (got * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected)
        assert cosine > 0.995, stage


def test_chip_equals_the_quantised_network_to_the_last_bit(artifact: Artifact) -> None:
    assert np.array_equal(outputs(artifact, "quantized"), outputs(artifact, "hbm"))


def test_hbdk_sim_of_the_file_equals_them_too(
    artifact: Artifact, horizon_toolchain: Environment, tmp_path: Path
) -> None:
    """The vendor's command line simulator on the shipped file: codes in, 32-bit sums out."""
    feeds = samples(small_net(), 1, seed=5)[0]["data"]
    details = artifact.manifest.details
    scale = details["calibration"]["data"]["scales"][0]  # type: ignore[index]
    codes = np.clip(np.rint(feeds / np.float32(scale)), -128, 127).astype(np.int8)
    (tmp_path / "out").mkdir()
    (tmp_path / "in.bin").write_bytes(codes.tobytes())
    name = inspect(artifact.file("model")).tables[0].rows[0][0]  # type: ignore[union-attr]
    argv = ["hbdk-sim", "-f", artifact.file("model"), "-n", str(name), "-i", "in.bin", "-o", "out"]
    done = run_tool(horizon_toolchain, argv, cwd=tmp_path, log=tmp_path / "log", timeout=120)
    assert done.rc == 0, done.text()
    lines = next((tmp_path / "out").glob("*_elem_int.txt")).read_text().splitlines()
    sums = np.array([int(line) for line in lines if not line.startswith("#")])
    import onnx

    quantised = onnx.load(str(artifact.file("quantized")))
    scales = next(onnx.numpy_helper.to_array(i) for i in quantised.graph.initializer if i.name.endswith("_x_scale"))
    assert np.array_equal(sums.astype(np.float32) * scales, outputs(artifact, "hbm", 1).ravel())


def test_inner_tensors_have_the_float_names(artifact: Artifact) -> None:
    feeds = samples(small_net(), 1, seed=5)[0]
    expected = tensors(small_net(), feeds)
    with HorizonRunner(artifact, RunOptions(simulator="quantized")) as runner:
        assert set(runner.layers()) >= {"r1", "r2", "a", "m"}
        got = runner.run(feeds, fetch=["r1", "m", "logits"])
    for name, values in got.items():
        assert values.shape == expected[name].shape
        error = np.abs(values - expected[name]).max() / np.abs(expected[name]).max()
        assert error < 0.1, name


def test_same_inputs_give_the_same_files(artifact: Artifact, tmp_path: Path) -> None:
    again = built(tmp_path / "again")
    digests = {f.path: f.sha256 for f in artifact.manifest.files if f.role in ("model", "bin", "quantized", "report")}
    assert digests == {f.path: f.sha256 for f in again.manifest.files if f.path in digests}


def test_lists_of_the_networks_are_in_order(artifact: Artifact) -> None:
    """hmct writes them by place in memory, which only another process (the first one, say) shows."""
    for stage in ("optimized", "calibrated", "quantized", "host"):
        graph = onnx.load(artifact.file(stage)).graph
        for entries in (graph.initializer, graph.value_info):
            assert [e.name for e in entries] == sorted(e.name for e in entries)


def test_any_number_of_samples_and_wrong_feeds(artifact: Artifact) -> None:
    with HorizonRunner(artifact, RunOptions()) as runner:
        three = np.concatenate([f["data"] for f in samples(small_net(), 3, seed=5)])
        assert runner.run({"data": three})["logits"].shape == (3, 10)
        for feeds in ({}, {"x": three}, {"data": three[:, :2]}, {"data": three.astype(np.float64)}):
            with pytest.raises(AccelError) as caught:
                runner.run(feeds)
            assert caught.value.code == "usage.input"
    with pytest.raises(AccelError) as caught:
        HorizonRunner(artifact, RunOptions(simulator="cmodel"))
    assert caught.value.code == "usage.simulator"


def test_static_performance(artifact: Artifact) -> None:
    report = perf(artifact, RunOptions(opt_levels=(0, 1)))
    assert report.metric("fps").value > 1000  # type: ignore[operator]
    assert report.metric("fps").provenance == "simulated"
    levels, layers = report.tables
    assert [r[0] for r in levels.rows] == ["O0", "O1"]
    assert levels.rows[1][1] == pytest.approx(report.metric("fps").value, rel=0.01)
    assert "pointwise" in [r[0] for r in layers.rows]


def test_inspect_files(artifact: Artifact) -> None:
    hbm = inspect(artifact.file("model"))
    assert hbm is not None and hbm.subject["march"] == "BAYES"
    assert ("input", "1x3x32x32") in [(r[0], r[3]) for r in hbm.tables[1].rows]
    runtime = inspect(artifact.file("bin"))
    assert runtime is not None and runtime.subject["march"] == "bayes"
    assert runtime.metric("program_size").value == artifact.file("model").stat().st_size
    estimate = inspect(artifact.file("report"))
    assert estimate is not None and estimate.metric("latency").unit == "ms"


def test_inspect_refuses_garbage(horizon_toolchain: Environment, tmp_path: Path) -> None:
    bad = tmp_path / "bad.hbm"
    bad.write_bytes(b"\0" * 4096)
    with pytest.raises(AccelError) as caught:
        inspect(bad)
    assert caught.value.code == "artifact.unreadable"


def test_check_names_place_and_cost(horizon_toolchain: Environment) -> None:
    found = check(small_net(), Registry().target("j5"), replace(FAST, set={"run_on_cpu": "depthwise"}))
    assert found is not None
    by_name = {s.node: s for s in found}
    assert by_name["conv1"].place == "j5" and "subgraph 0" in by_name["conv1"].reason
    assert by_name["depthwise"].place == "host"
    assert "values a frame cross between chip and host" in by_name["depthwise"].reason


def test_int16_and_host_nodes(horizon_toolchain: Environment, tmp_path: Path) -> None:
    options = replace(FAST, node_precisions={"pointwise": "int16"}, set={"run_on_cpu": "depthwise,pool"})
    made = built(tmp_path / "mixed", options=options)
    by_name = {n.node: n for n in made.manifest.nodes}
    assert by_name["depthwise"].place == "host"
    notes = " ".join(made.manifest.notes)
    assert "node pool was asked to run on the CPU and runs on the BPU" in notes
    asked = by_name["pointwise"]
    assert (asked.precision == "int16") != ("pointwise was asked to be int16" in notes)
    assert np.array_equal(outputs(made, "quantized"), outputs(made, "hbm"))


def test_int16_for_all(horizon_toolchain: Environment, tmp_path: Path) -> None:
    made = built(tmp_path / "int16", options=replace(FAST, precision="int16"))
    expected = np.concatenate([tensors(small_net(), f)["logits"] for f in samples(small_net(), 4, seed=5)])
    eight = built(tmp_path / "int8")
    error = [np.abs(outputs(a, "quantized") - expected).mean() for a in (made, eight)]
    assert error[0] < error[1]


@pytest.mark.parametrize("target", ["x3", "x5"])
def test_other_chips(horizon_toolchain: Environment, tmp_path: Path, target: str) -> None:
    made = built(tmp_path / target, target)
    assert np.array_equal(outputs(made, "quantized"), outputs(made, "hbm"))


def test_two_cores(horizon_toolchain: Environment, tmp_path: Path) -> None:
    made = built(tmp_path / "x3", "x3", replace(FAST, cores=2))
    summary = json.loads(made.file("report").read_text())["summary"]
    assert summary["BPU core number"] == 2
    assert "average_SPLIT" in " ".join(made.manifest.notes)  # a tensor that only the compiler has
    with pytest.raises(AccelError) as caught:
        outputs(made, "hbm")
    assert caught.value.code == "unsupported.simulator"


def test_several_batches_in_one_file(horizon_toolchain: Environment, tmp_path: Path) -> None:
    made = built(tmp_path / "batches", options=replace(FAST, batches=(1, 4)))
    assert len(inspect(made.file("model")).tables[0].rows) == 2  # type: ignore[union-attr]
    data = np.concatenate([f["data"] for f in samples(small_net(), 4, seed=5)])
    results = []
    for batch in (1, 4):
        for stage in ("quantized", "hbm"):
            with HorizonRunner(made, RunOptions(simulator=stage, batch=batch)) as runner:
                results.append(runner.run({"data": data})["logits"])
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@pytest.mark.parametrize("kind", ["rgb", "bgr", "nv12"])
@pytest.mark.parametrize("target", ["j5", "x3"])
def test_pictures_with_the_normalisation_inside(
    horizon_toolchain: Environment, tmp_path: Path, kind: str, target: str
) -> None:
    how = Preprocessing(size=(32, 32), mean=(120.0, 110.0, 100.0), std=(60.0, 64.0, 58.0))
    made = built(tmp_path / kind, target, replace(FAST, preprocessing=how, set={"input_type": kind}))
    assert made.manifest.preprocessing is not None and made.manifest.preprocessing.folded
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (1, 3, 8, 8)).astype(np.float32)
    pixels = np.repeat(np.repeat(small, 4, axis=2), 4, axis=3)  # chroma survives NV12's halving
    mean, std = (np.array(v, np.float32)[None, :, None, None] for v in (how.mean, how.std))
    expected = tensors(small_net(), {"data": (pixels - mean) / std})["logits"]
    results = {}
    for stage in ("float", "quantized", "hbm"):
        with HorizonRunner(made, RunOptions(simulator=stage)) as runner:
            results[stage] = runner.run({"data": pixels})["logits"]
    assert np.abs(results["float"] - expected).max() < (0.2 if kind == "nv12" else 1e-3)
    cosine = (results["quantized"] * expected).sum() / np.linalg.norm(results["quantized"]) / np.linalg.norm(expected)
    assert cosine > 0.98
    assert np.array_equal(results["quantized"], results["hbm"])

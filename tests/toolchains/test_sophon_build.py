"""Sophon for real: the vendor's compiler and simulators on small networks."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accel import driver
from accel.artifact import Artifact
from accel.calibration import Calibration
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel.toolchain.spec import Environment
from toolchains.sophon_nets import Clouds, small_cnn, small_detector

pytestmark = pytest.mark.toolchain("sophon")


@dataclasses.dataclass
class Work:
    model: Model
    calibration: Calibration
    folder: Path

    def build(self, target: str, **options: object) -> Artifact:
        name = f"{target}-{abs(hash(str(options)))}"
        asked = BuildOptions(backend="vendor", **options)  # type: ignore[arg-type]
        return driver.build(self.model, target, self.folder / name, asked, calibration=self.calibration)


@pytest.fixture(scope="module")
def work(sophon_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("sophon")
    model = driver.prepare(driver.parse(small_cnn(folder / "small.onnx")))
    return Work(model, driver.calibrate(model, Clouds(8)), folder)


@pytest.fixture(scope="module")
def bm1684(work: Work, _module_cache: None) -> Artifact:
    return work.build("bm1684")


@pytest.fixture(scope="module")
def _module_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    import os

    os.environ["ACCEL_CACHE_DIR"] = str(tmp_path_factory.mktemp("sophon-cache"))


def outputs(artifact: Artifact, count: int = 4, **options: object) -> np.ndarray:
    with driver.run(artifact, RunOptions(**options)) as runner:  # type: ignore[arg-type]
        return np.concatenate([runner.run(s.inputs)["logits"] for s in Clouds(count, seed=7)])


def floats(work: Work, count: int = 4) -> np.ndarray:
    with driver.run_float(work.model) as runner:
        return np.concatenate([runner.run(s.inputs)["logits"] for s in Clouds(count, seed=7)])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_int8_from_our_calibration(work: Work, bm1684: Artifact) -> None:
    manifest = bm1684.manifest
    assert manifest.payload == "bmodel" and manifest.precision == "int8" and manifest.backend == "vendor"
    assert bm1684.file("model").suffix == ".bmodel"
    assert {n.node: n.precision for n in manifest.nodes}["conv2"] == "int8"
    assert cosine(outputs(bm1684), floats(work)) > 0.95
    names = {f.path for f in manifest.files}
    assert {f"bmrt_test/batch1/{n}_ref_data.dat" for n in ("input", "output")} <= names
    assert "bmrt_test/batch1/compilation.bmodel" in names


def test_the_shown_commands_are_those_that_run(work: Work, bm1684: Artifact) -> None:
    shown = driver.commands(work.model, driver.resolve("bm1684"), BuildOptions(backend="vendor"))
    assert [words[1] for words in shown] == ["model_transform.py", "model_deploy.py"]
    ran = [shlex.split(row[2:]) for row in bm1684.file("log").read_text().splitlines() if row.startswith("$ ")]
    deployed = next(words for words in ran if words[1].endswith("model_deploy.py"))
    # The second table is written only where a layer stays in float.
    wanted = [w for w in shown[-1][2:] if w not in ("--quantize_table", "quantize_table")]
    assert deployed[0] == shown[-1][0] and deployed[2:] == wanted


def test_both_simulators_and_several_workers_agree(bm1684: Artifact) -> None:
    fast = outputs(bm1684)
    np.testing.assert_array_equal(fast, outputs(bm1684, simulator="cmodel"))
    batch = np.concatenate([s.inputs["input"] for s in Clouds(4, seed=7)])
    with driver.run(bm1684, RunOptions(workers=2)) as runner:
        np.testing.assert_array_equal(fast, runner.run({"input": batch})["logits"])


@pytest.mark.parametrize("target", ["bm1684", "bm1684x"])
def test_the_reference_predicts_the_chip(work: Work, target: str) -> None:
    chip = work.build(target)
    reference = driver.build(
        work.model,
        target,
        work.folder / f"{target}-reference",
        BuildOptions(backend="reference"),
        calibration=work.calibration,
    )
    a, b = outputs(chip, 8), outputs(reference, 8)
    assert cosine(a, b) > 0.9999
    assert (a.argmax(1) == b.argmax(1)).all()
    with driver.run(chip) as left, driver.run(reference) as right:
        feed = next(iter(Clouds(1, seed=9))).inputs
        for layer in ("r1", "c2", "sum"):
            ours, theirs = right.run(feed, [layer])[layer], left.run(feed, [layer])[layer]
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=layer)


@pytest.mark.parametrize(
    ("target", "precision", "least"),
    [
        ("bm1684", "fp32", 0.99999),
        ("bm1684x", "fp16", 0.9999),
        ("bm1684x", "bf16", 0.999),
        ("bm1684x", "fp32", 0.99999),
        ("bm1688", "int8", 0.95),
        ("bm1688", "fp16", 0.9999),
        ("cv186x", "int8", 0.95),
    ],
)
def test_every_chip_and_precision(work: Work, target: str, precision: str, least: float) -> None:
    artifact = work.build(target, precision=precision)
    want = floats(work)
    assert cosine(outputs(artifact), want) > least
    assert cosine(outputs(artifact, 1, simulator="cmodel"), want[:1]) > least
    latency = driver.perf(artifact).metric("latency")
    assert latency.value and latency.provenance == ("predicted" if target == "bm1684" else "simulated")


@pytest.mark.parametrize("target", ["bm1684", "bm1684x"])
def test_two_batches_in_one_file(work: Work, target: str) -> None:
    artifact = work.build(target, batches=(1, 4))
    assert artifact.manifest.batches == (1, 4)
    one = outputs(artifact)
    batch = np.concatenate([s.inputs["input"] for s in Clouds(4, seed=7)])
    with driver.run(artifact, RunOptions(batch=4)) as runner:
        np.testing.assert_array_equal(one, runner.run({"input": batch})["logits"])
    rows = driver.inspect(artifact.path).tables[0].rows
    assert {str(row[6]) for row in rows if row[4] == "input"} == {"[4, 3, 16, 16]", "[1, 3, 16, 16]"}


def test_combining_two_artifacts(work: Work, bm1684: Artifact) -> None:
    four = work.build("bm1684", batches=(4,))
    both = driver.combine([bm1684, four], work.folder / "both")
    assert both.manifest.batches == (1, 4)
    np.testing.assert_array_equal(outputs(both), outputs(bm1684))
    with pytest.raises(AccelError, match="same batch"):
        driver.combine([bm1684, bm1684], work.folder / "never")


def test_single_nodes_stay_in_float(work: Work) -> None:
    artifact = work.build("bm1684", node_precisions={"fc": "fp32", "conv2": "fp32"})
    found = {n.node: n.precision for n in artifact.manifest.nodes}
    assert found["fc"] == "fp32" and found["conv2"] == "fp32" and found["add"] == "int8"
    with pytest.raises(AccelError) as caught:
        work.build("bm1684", node_precisions={"conv9": "fp32"})
    assert caught.value.code == "usage.node"


def test_the_vendors_own_calibration(work: Work) -> None:
    artifact = work.build("bm1684", calibrator="vendor", method="max", dataset=Clouds(8))
    assert cosine(outputs(artifact), floats(work)) > 0.95
    assert any("vendor's tool, max" in note for note in artifact.manifest.notes)


@pytest.mark.parametrize(
    ("search", "method"), [("search_threshold", "auto"), ("search_qtable", "auto"), ("", "aciq_laplace")]
)
def test_the_vendors_searches_and_methods(work: Work, search: str, method: str) -> None:
    given = {"search": search} if search else {}
    artifact = work.build("bm1684", calibrator="vendor", method=method, dataset=Clouds(8), set=given)
    assert cosine(outputs(artifact), floats(work)) > 0.95
    assert any(note.endswith(search or f"{method}, 8 samples") for note in artifact.manifest.notes)
    log = artifact.file("log").read_text()
    assert (f"--search {search}" if search else f"--cali_method {method}") in log


def test_an_unknown_method_of_the_vendor(work: Work) -> None:
    with pytest.raises(AccelError) as caught:
        work.build("bm1684", calibrator="vendor", method="guess", dataset=Clouds(8))
    assert caught.value.code == "usage.method" and "aciq_laplace" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("target", "precision", "least"), [("bm1684", "fp32", 0.99999), ("bm1684", "int8", 0.95), ("bm1684x", "int8", 0.99)]
)
def test_dynamic_shapes(work: Work, target: str, precision: str, least: float) -> None:
    artifact = work.build(target, precision=precision, dynamic=True)
    assert cosine(outputs(artifact, 2, simulator="cmodel"), floats(work, 2)) > least
    rows = driver.inspect(artifact.path).tables[0].rows
    assert {row[1] for row in rows} == {"dynamic"}
    # What is known to differ from the static numbers is noted.
    noted = any("dynamic shapes" in note for note in artifact.manifest.notes)
    assert noted == (target == "bm1684" and precision == "int8")


def test_quantised_input_and_output(work: Work, bm1684: Artifact) -> None:
    artifact = work.build("bm1684", int_io=frozenset({"input", "output"}))
    rows = driver.inspect(artifact.path).tables[0].rows
    assert {row[7] for row in rows} == {"int8"}
    assert cosine(outputs(artifact, simulator="cmodel"), outputs(bm1684)) > 0.999


PICTURE = Preprocessing(size=(16, 16), mean=(123.0, 116.0, 103.0), std=(58.0, 57.0, 56.0))


class Pixels(Clouds):
    """The clouds as pictures of 0 to 255; ``normalised`` gives the float network's inputs."""

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            x = sample.inputs["input"]
            yield Sample(sample.name, {"input": np.rint(255 * (x - x.min()) / np.ptp(x)).astype(np.float32)})

    def normalised(self) -> list[np.ndarray]:
        mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (PICTURE.mean, PICTURE.std))
        return [(s.inputs["input"] - mean) / std for s in self]


class Normalised(Pixels):
    def __iter__(self) -> Iterator[Sample]:
        for at, x in enumerate(self.normalised_arrays):
            yield Sample(str(at), {"input": x})

    @property
    def normalised_arrays(self) -> list[np.ndarray]:
        return Pixels(len(self)).normalised()


@pytest.mark.parametrize(
    ("target", "precision", "how", "least"),
    [
        ("bm1684x", "fp16", "fuse", 0.9999),
        ("bm1684x", "int8", "fuse", 0.95),
        ("bm1684", "int8", "fold", 0.95),
        ("bm1684", "fp32", "fold", 0.99999),
    ],
)
def test_a_network_that_takes_pixels(work: Work, target: str, precision: str, how: str, least: float) -> None:
    calibration = driver.calibrate(work.model, Normalised(8))
    chosen: dict[str, object] = {"set": {"fuse_preprocess": "yes"}} if how == "fuse" else {"fold_preprocessing": True}
    asked = BuildOptions(backend="vendor", precision=precision, preprocessing=PICTURE, **chosen)  # type: ignore[arg-type]
    place = work.folder / f"pixels-{target}-{precision}"
    artifact = driver.build(work.model, target, place, asked, calibration=calibration)
    assert artifact.manifest.preprocessing is not None and artifact.manifest.preprocessing.folded
    with driver.run_float(work.model) as runner:
        want = np.concatenate([runner.run({"input": x})["logits"] for x in Pixels(4, seed=7).normalised()])
    for simulator in ("mlir", "cmodel"):
        with driver.run(artifact, RunOptions(simulator=simulator)) as runner:
            got = np.concatenate([runner.run(s.inputs)["logits"] for s in Pixels(4, seed=7)])
        assert cosine(got, want) > least
    if how == "fuse":
        rows = driver.inspect(artifact.path).tables[0].rows
        assert [row[7] for row in rows if row[4] == "input"] == ["uint8"]


def test_fused_preprocessing_is_not_for_bm1684(work: Work) -> None:
    with pytest.raises(AccelError) as caught:
        work.build("bm1684", preprocessing=PICTURE, set={"fuse_preprocess": "yes"})
    assert caught.value.code == "unsupported.fuse-preprocess" and "--fold-preprocessing" in caught.value.hints[0]


def test_two_cores(work: Work) -> None:
    artifact = work.build("bm1688", cores=2)
    assert {row[3] for row in driver.inspect(artifact.path).tables[0].rows} == {2}


def test_nonsense_with_exit_code_0_is_found(work: Work, tmp_path: Path) -> None:
    model = driver.prepare(driver.parse(small_cnn(tmp_path / "min.onnx", extra="min")))
    calibration = driver.calibrate(model, Clouds(8))
    # Asked for in INT8, it is compiled and computes something else; left alone, it stays in float and is right.
    asked = BuildOptions(backend="vendor", node_precisions={"minimum": "int8"})
    with pytest.raises(AccelError) as caught:
        driver.build(model, "bm1684", tmp_path / "min", asked, calibration=calibration)
    assert caught.value.code == "failed.output"
    assert not (tmp_path / "min").exists()
    good = driver.build(model, "bm1684", tmp_path / "good", BuildOptions(backend="vendor"), calibration=calibration)
    assert {n.node: n.precision for n in good.manifest.nodes}["minimum"] == "fp32"
    with driver.run_float(model) as runner:
        want = np.concatenate([runner.run(x.inputs)["logits"] for x in Clouds(4, seed=7)])
    assert cosine(outputs(good), want) > 0.95
    nodes = {n.node: n for n in driver.check(model, "bm1684")}
    assert "nonsense" in nodes["minimum"].reason


def test_a_dilated_depthwise_convolution(work: Work, tmp_path: Path) -> None:
    # Left to itself, the compiler writes its weights for BM1684 in a wrong order: cosine 0.2, exit code 0.
    model = driver.prepare(driver.parse(small_cnn(tmp_path / "dilated.onnx", extra="dilated")))
    calibration = driver.calibrate(model, Clouds(8))
    asked = BuildOptions(backend="vendor")
    artifact = driver.build(model, "bm1684", tmp_path / "out", asked, calibration=calibration)
    assert {n.node: n.precision for n in artifact.manifest.nodes}["conv2"] == "int8"
    assert "spread_dilations" in artifact.manifest.passes
    fast = outputs(artifact)
    np.testing.assert_array_equal(outputs(artifact, simulator="cmodel"), fast)
    with driver.run_float(model) as runner:
        want = np.concatenate([runner.run(x.inputs)["logits"] for x in Clouds(4, seed=7)])
    assert cosine(fast, want) > 0.95


def test_an_operator_the_chip_lacks(work: Work, tmp_path: Path) -> None:
    model = driver.parse(small_cnn(tmp_path / "hardmax.onnx", extra="hardmax"))
    assert not {n.node: n for n in driver.check(model, "bm1684", BuildOptions(precision="fp32"))}["mine"].supported
    with pytest.raises(AccelError) as caught:
        driver.build(model, "bm1684", tmp_path / "out", BuildOptions(backend="vendor", precision="fp32"))
    assert caught.value.code == "unsupported.op" and caught.value.node == "mine"
    assert "fc" in caught.value.summary and "Hardmax" in caught.value.cause  # a matrix product depends on it
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_tail_that_the_chip_lacks_runs_on_the_host(work: Work, tmp_path: Path, precision: str) -> None:
    model = driver.prepare(driver.parse(small_cnn(tmp_path / "tail.onnx", extra="tail")))
    support = {n.node: n for n in driver.check(model, "bm1684", BuildOptions(precision=precision))}
    assert support["running"].supported and support["running"].place == "host"
    calibration = driver.calibrate(model, Clouds(8)) if precision == "int8" else None
    asked = BuildOptions(backend="vendor", precision=precision)
    parts = []
    for batch in (1, 2):
        place = tmp_path / f"batch{batch}"
        asked = dataclasses.replace(asked, batches=(batch,))
        parts.append(driver.build(model, "bm1684", place, asked, calibration=calibration))
    artifact = driver.combine(parts, tmp_path / "both")
    places = {n.node: n.place for n in artifact.manifest.nodes}
    assert places["running"] == places["best"] == "host" and places["fc"] == "bm1684"
    assert any("CumSum" in note and "host" in note for note in artifact.manifest.notes)
    batch = np.concatenate([s.inputs["input"] for s in Clouds(4, seed=7)])
    with driver.run_float(model) as runner:
        want = runner.run({"input": batch})
    for simulator, size in (("mlir", 2), ("cmodel", 1)):
        with driver.run(artifact, RunOptions(simulator=simulator, batch=size)) as runner:
            got = runner.run({"input": batch})
        assert got["which"].dtype == want["which"].dtype and got["values"].shape == want["values"].shape
        assert cosine(got["values"], want["values"]) > 0.95


def test_boxes_are_decoded_in_float_on_the_host(work: Work, tmp_path: Path) -> None:
    model = driver.prepare(driver.parse(small_detector(tmp_path / "detector.onnx")))
    calibration = driver.calibrate(model, Clouds(8))
    artifact = driver.build(model, "bm1684", tmp_path / "out", BuildOptions(backend="vendor"), calibration=calibration)
    places = {n.node: n.place for n in artifact.manifest.nodes}
    assert places["box"] == places["score"] == "bm1684"
    assert {places[n] for n in ("rows", "scaled", "decoded", "certain", "nms")} == {"host"}
    feed = next(iter(Clouds(1, seed=7))).inputs
    wanted = ["decoded", "confidence"]
    with driver.run(artifact, RunOptions(simulator="cmodel")) as runner, driver.run_float(model) as reference:
        got, want = runner.run(feed, wanted), reference.run(feed, wanted)
        kept = runner.run(feed)["kept"]
    assert kept.dtype == np.int64 and kept.shape[1] == 3 and 1 <= len(kept) <= 5
    assert np.abs(got["decoded"] - want["decoded"]).max() < 0.01
    assert np.abs(got["confidence"] - want["confidence"]).max() < 0.05


def test_a_truncated_bmodel(bm1684: Artifact, tmp_path: Path) -> None:
    cut = tmp_path / "cut.bmodel"
    cut.write_bytes(bm1684.file("model").read_bytes()[:1000])
    with pytest.raises(AccelError) as caught:
        driver.inspect(cut)
    assert caught.value.code == "failed.bmodel"


def test_wrong_feeds(bm1684: Artifact) -> None:
    with driver.run(bm1684) as runner:
        for feeds in (
            {"inputs": np.zeros((1, 3, 16, 16), np.float32)},
            {},
            {"input": np.zeros((1, 3, 15, 16), np.float32)},
            {"input": np.array([["x"]])},
        ):
            with pytest.raises(AccelError) as caught:
                runner.run(feeds)
            assert caught.value.code == "usage.input"
        with pytest.raises(AccelError, match="no tensor"):
            runner.run({"input": np.zeros((1, 3, 16, 16), np.float32)}, ["nothing"])


def test_a_second_chip_reuses_the_transform(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The two round differently, so weights and biases are tuned differently; the graph is read once.
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path))
    made = [work.build(target) for target in ("bm1684", "bm1684x")]
    logs = [artifact.file("log").read_text() for artifact in made]
    assert [log.count("model_transform.py") for log in logs] == [1, 0]
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "empty"))
    alone = dataclasses.replace(work, folder=tmp_path).build("bm1684x")
    assert alone.file("log").read_text().count("model_transform.py") == 1
    np.testing.assert_array_equal(outputs(made[1]), outputs(alone))

"""Running and timing on a device, held against a strict stand-in for sophon-sail and bmrt_test: no card was at hand."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from accel import driver
from accel.artifact import SCHEMA, Artifact, Manifest
from accel.artifacts import write_artifact
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.options import RunOptions
from accel.toolchain.find import status
from accel_sophon.device import parse_timing
from accel_sophon.runtime import SOPHON_RUNTIME, chosen_device

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with libsophon, sail and one device."""
    root = tmp_path / "libsophon-0.4.9"
    (root / "bin").mkdir(parents=True)
    tool = root / "bin" / "bmrt_test"
    shutil.copy(FAKES / "bmrt_test", tool)
    tool.write_text(tool.read_text().replace("/usr/bin/env python3", sys.executable, 1))
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\nexport PYTHONPATH='{FAKES}'\nexec {sys.executable} \"$@\"\n")
    python.chmod(0o755)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "bm-sophon0").touch()
    monkeypatch.setenv("ACCEL_LIBSOPHON", str(root))
    monkeypatch.setenv("ACCEL_SOPHON_DEVICES", str(tmp_path / "dev" / "bm-sophon*"))
    monkeypatch.setenv("ACCEL_SOPHON_PYTHON", str(python))
    return root


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "net-bm1684-int8"
    folder.mkdir()
    net = {"name": "net", "inputs": {"in_0": [2, 3, 4]}, "outputs": {"total_Sum_f32": [2, 1], "first_Slice": [2, 1]}}
    (folder / "net.bmodel").write_text(json.dumps(net))
    about = {"mlir": "", "inputs": ["in_0"], "layers": {"total": "total_Sum"}, "renamed": {"in 0": "in_0"}}
    outputs = tuple(TensorSpec(n, "float32", (2, 1)) for n in ("total", "first"))
    manifest = Manifest(
        schema=SCHEMA,
        name="net",
        target="bm1684",
        vendor="sophon",
        backend="vendor",
        precision="int8",
        payload="bmodel",
        inputs=(TensorSpec("in 0", "float32", (2, 3, 4)),),
        outputs=outputs,
        batches=(2,),
        files=(),
        model_digest="",
        details={"arch": "bm1684", "simulators": {"2": about}, "costs": {"batch": 2, "unknown": [], "nodes": []}},
    )
    return write_artifact(folder, manifest, {"model": folder / "net.bmodel"})


def test_the_runtime_is_found_by_presence(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = status(SOPHON_RUNTIME)
    assert found.state == "ready" and found.environment is not None and found.environment.version == "0.4.9"
    assert SOPHON_RUNTIME.probe is not None
    assert "1 device(s)" in SOPHON_RUNTIME.probe(found.environment)
    monkeypatch.setenv("ACCEL_SOPHON_DEVICES", str(machine / "none*"))
    assert status(SOPHON_RUNTIME).state == "missing"


def test_a_python_without_sail_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_SOPHON_PYTHON", sys.executable)
    environment = status(SOPHON_RUNTIME).environment
    assert environment is not None and SOPHON_RUNTIME.probe is not None
    with pytest.raises(AccelError) as caught:
        SOPHON_RUNTIME.probe(environment)
    assert caught.value.code == "toolchain.broken" and "sophon" in caught.value.cause


def test_it_runs_on_the_device(machine: Path, artifact: Artifact) -> None:
    x = np.arange(36, dtype=np.float32).reshape(3, 3, 4)  # not a multiple of the batch
    with driver.run(artifact) as runner:
        assert runner.provenance == "measured" and runner.device == "bm1684 #0" and runner.layers() == ()
        got = runner.run({"in 0": x})
    np.testing.assert_array_equal(got["total"], x.sum((1, 2)).reshape(3, 1))
    np.testing.assert_array_equal(got["first"], x[:, 0, :1])


def test_choosing_a_device(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_device("auto", "") == 0 and chosen_device("0", "") == 0
    assert chosen_device("simulator", "") is None and chosen_device("auto", "cmodel") is None
    for asked, simulator, code in (("1", "", "toolchain.missing"), ("x", "", "usage."), ("0", "mlir", "usage.")):
        with pytest.raises(AccelError) as caught:
            chosen_device(asked, simulator)
        assert caught.value.code.startswith(code) and caught.value.hints
    monkeypatch.setenv("ACCEL_SOPHON_DEVICES", str(machine / "none*"))
    assert chosen_device("auto", "") is None
    with pytest.raises(AccelError, match="device 0"):
        chosen_device("0", "")


def test_time_is_measured(machine: Path, artifact: Artifact) -> None:
    report = driver.perf(artifact)
    assert {m.provenance for m in report.metrics} == {"measured"}
    assert report.metric("latency").value == pytest.approx(4.001) and report.metric("tpu").value == pytest.approx(3.901)
    assert report.metric("fps").value == pytest.approx(2 / 4.001e-3)
    assert report.metric("load_input").value == pytest.approx(8.669)
    assert "--device 0" in report.commands[0] and "median of 20" in report.metric("latency").source
    assert "median of 5" in driver.perf(artifact, RunOptions(frames=5)).metric("latency").source
    with pytest.raises(AccelError, match="all cores"):
        driver.perf(artifact, RunOptions(core=1))
    assert driver.perf(artifact, RunOptions(device="simulator")).metric("latency").provenance == "predicted"


def test_a_failing_tool_is_one_error(machine: Path, artifact: Artifact) -> None:
    (machine.parent / "dev" / "bm-sophon1").touch()
    with pytest.raises(AccelError) as caught:
        driver.perf(artifact, RunOptions(device="1"))
    assert caught.value.code == "failed.device" and "bm_dev_request" in caught.value.cause
    with pytest.raises(AccelError) as caught:
        driver.run(artifact, RunOptions(device="1"))
    assert caught.value.code == "failed.worker" and "bm_dev_request" in caught.value.cause
    with pytest.raises(AccelError) as caught:
        parse_timing("[BMRT] nothing of use")
    assert caught.value.code == "failed.device"

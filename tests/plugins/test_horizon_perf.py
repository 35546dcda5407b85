"""Figures of an artifact with several batches: those of the batch that is asked for, not of all together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accel import driver
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from support.artifacts import hbm_artifact


def estimate(latency: int, frames: int) -> str:
    """What hbdk-perf writes of one subgraph."""
    summary = {
        "FPS": frames * 1e6 / latency,
        "latency (us)": latency,
        "frame per run": frames,
        "DDR bytes per frame": 1000,
        "BPU OPs per frame (effective)": 10,
        "BPU core number": 1,
    }
    return json.dumps({"summary": summary})


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    files = {"model": tmp_path / "net.hbm", "one": tmp_path / "net_b1_subgraph_0.json"}
    files["four"] = tmp_path / "net_b4_subgraph_0.json"
    files["model"].write_bytes(b"a program")
    files["one"].write_text(estimate(500, 1))
    files["four"].write_text(estimate(1600, 4))
    held = {"model": files["model"], "report": [files["one"], files["four"]]}
    return hbm_artifact(tmp_path / "artifact", held, (1, 4), {"prefixes": ["net_b1", "net_b4"]})


@pytest.mark.parametrize(("batch", "latency", "fps"), [(None, 0.5, 2000), (1, 0.5, 2000), (4, 1.6, 2500)])
def test_each_batch_has_its_own_figures(artifact: Artifact, batch: int | None, latency: float, fps: float) -> None:
    report = driver.perf(artifact, RunOptions(batch=batch, device="simulator"))
    found = {m.name: m.value for m in report.metrics}
    assert (found["latency"], found["fps"], found["subgraphs"]) == (latency, fps, 1)


def test_a_batch_that_is_not_there(artifact: Artifact) -> None:
    with pytest.raises(AccelError) as caught:
        driver.perf(artifact, RunOptions(batch=2, device="simulator"))
    assert caught.value.code == "usage.batch"

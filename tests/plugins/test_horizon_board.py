"""Speed on a board, by contract: a stand-in for hrt_model_exec that takes the documented options only."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from accel import driver
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from support.artifacts import hbm_artifact
from support.cli import Cli

FAKE = Path(__file__).parent / "fakes" / "hrt_model_exec"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which the stand-in lies."""
    tool = tmp_path / "bin" / "hrt_model_exec"
    tool.parent.mkdir()
    shutil.copy(FAKE, tool)
    tool.write_text(tool.read_text().replace("/usr/bin/env python3", sys.executable, 1))
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return tool


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    model = tmp_path / "net.hbm"
    model.write_bytes(b"a program")
    return hbm_artifact(tmp_path / "artifact", {"model": model})


def failing(tool: Path, how: str) -> None:
    text = tool.read_text().replace('os.environ.get("FAKE_HRT", "")', repr(how))
    tool.write_text(text)


def test_the_board_measures(board: Path, artifact: Artifact) -> None:
    report = driver.perf(artifact, RunOptions(threads=4, core=1, frames=300))
    found = {m.name: m for m in report.metrics}
    assert found["fps"].value == pytest.approx(1111.111, abs=1e-3)
    assert found["latency"].value == pytest.approx(3.6)
    assert found["thread_num"].value == 4
    assert found["frame_count"].value == 300
    assert {m.provenance for m in report.metrics} == {"measured"}
    assert report.tables[0].rows == (("BPU_subgraph_0", 3.6, 0.5, 2.0),)
    assert report.commands[0].startswith("hrt_model_exec perf --model_file=")
    assert "--thread_num=4 --core_id=1 --frame_count=300" in report.commands[0]


def test_newer_releases_print_dashes(board: Path, artifact: Artifact) -> None:
    failing(board, "dash")
    report = driver.perf(artifact, RunOptions())
    assert {m.name: m.value for m in report.metrics}["frame_count"] == 1000


@pytest.mark.parametrize(("how", "cause"), [("crash", "-6000001"), ("mute", "Load model")])
def test_a_board_that_fails(board: Path, artifact: Artifact, how: str, cause: str) -> None:
    failing(board, how)
    with pytest.raises(AccelError) as caught:
        driver.perf(artifact, RunOptions())
    assert caught.value.code == "failed.perf"
    assert cause in caught.value.cause


def test_too_many_threads(board: Path, artifact: Artifact) -> None:
    with pytest.raises(AccelError, match="at most 8 threads"):
        driver.perf(artifact, RunOptions(threads=9))


def test_a_device_asked_for_where_there_is_no_board(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AccelError) as caught:
        driver.perf(artifact, RunOptions(device="0"))
    assert caught.value.code == "toolchain.missing"


def test_from_the_command_line(board: Path, artifact: Artifact, cli: Cli) -> None:
    found = cli.json("perf", str(artifact.path), "--threads", "8", "--core", "2", "--frames", "200")
    assert "--thread_num=8 --core_id=2 --frame_count=200" in str(found)

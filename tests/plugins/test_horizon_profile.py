"""Profiles that hrt_model_exec writes on a board (form of the RDK manuals)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accel.errors import AccelError
from accel_horizon.inspecting import inspect

TIME = {"avg_time": 1.5, "max_time": 2.0, "min_time": 1.0}


def write_log(path: Path, chips: str, nodes: dict[str, object]) -> Path:
    first = {
        "perf_result": {"FPS": 677.5, "average_latency": 11.25},
        "running_condition": {"core_id": 0, "frame_count": 200, "model_name": "m", "run_time": 295.1, "thread_num": 8},
    }
    second = {
        chips: {"BPU_inference_time_cost": TIME, "CPU_inference_time_cost": {**TIME, "avg_time": 0.25}},
        "model_latency": nodes,
        "task_latency": {"TaskPendingTime": TIME, "TaskRunningTime": TIME},
    }
    path.write_text(json.dumps(first, indent=2) + "\n***\n" + json.dumps(second, indent=2), encoding="utf-8")
    return path


@pytest.mark.parametrize("chips", ["chip_latency", "processor_latency"])
def test_log(tmp_path: Path, chips: str) -> None:
    report = inspect(write_log(tmp_path / "profile.log", chips, {"BPU_m_subgraph_0": TIME, "Softmax_prob": TIME}))
    assert report is not None
    assert report.metric("fps").value == 677.5
    assert report.metric("fps").provenance == "measured"
    assert report.metric("cpu_time").value == 0.25
    assert report.metric("task_running_time").unit == "ms"
    assert report.metric("thread_num").value == 8
    assert report.tables[0].rows == (("BPU_m_subgraph_0", 1.5, 1.0, 2.0), ("Softmax_prob", 1.5, 1.0, 2.0))


def test_nodes_with_stages(tmp_path: Path) -> None:
    nodes = {"Node-0-BPU-m": {"Stage1-GenerateBpuTask": TIME, "Total": TIME}}
    report = inspect(write_log(tmp_path / "profiler.log", "processor_latency", nodes))
    assert report is not None
    assert [r[0] for r in report.tables[0].rows] == ["Node-0-BPU-m Stage1-GenerateBpuTask", "Node-0-BPU-m Total"]


@pytest.mark.parametrize("text", ["", "no json", '{"perf_result": {"FPS": 1', "[1]", '{"other": 1}'])
def test_not_a_log(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.log"
    path.write_text(text)
    with pytest.raises(AccelError) as caught:
        inspect(path)
    assert caught.value.code == "usage.profile"


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "profile.csv"
    path.write_text("node,type,avg_time(ms),max_time(ms)\nconv,BPU,1.5,2\nsoftmax,CPU,0.5,1\n")
    report = inspect(path)
    assert report is not None
    assert report.metric("nodes_time").value == 2.0
    assert report.tables[0].rows[1] == ("softmax", "CPU", 0.5, 1.0)


@pytest.mark.parametrize("text", ["", "a\n1\n", "node,avg\nconv,1,2\n"])
def test_not_a_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.csv"
    path.write_text(text)
    with pytest.raises(AccelError) as caught:
        inspect(path)
    assert caught.value.code == "usage.profile"


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    other = tmp_path / "weights.bin"
    other.write_bytes(b"nothing of Horizon's")
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    assert inspect(other) is None
    assert inspect(settings) is None
    assert inspect(tmp_path) is None

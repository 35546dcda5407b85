"""Finding the node that a compiler crashed on without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accel.errors import AccelError
from accel.options import BuildOptions
from accel.plugins import Registry
from accel.toolchain.spec import Environment
from accel_horizon import crash
from accel_horizon.inputs import chip_inputs
from accel_horizon.job import Job
from accel_horizon.prepare import for_horizon
from accel_horizon.wanted import wanted
from toolchains.horizon_nets import small_net

ENV = Environment("horizon", "0", Path("/nowhere"), Path("/nowhere/python"))


@pytest.mark.parametrize("culprit", ["conv1", "pointwise", "head"])
def test_names_the_first_node_whose_beginning_crashes(
    culprit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_job(env: Environment, job: Job, folder: Path, log: Path, *, stage: str = "build") -> dict[str, Any]:
        if any(n.name == culprit for n in job.model.proto.graph.node):
            raise AccelError("died", code="failed.compiler-crash")
        return {}

    monkeypatch.setattr(crash, "run_job", run_job)
    model = for_horizon(small_net(), 1)
    target, options = Registry().target("j5"), BuildOptions()
    asked = wanted(model, target, options)
    job = Job(model, "bayes", chip_inputs(model, options, "featuremap"), asked, {"kind": "fixed"})
    found = crash.blame(AccelError("died", code="failed.compiler-crash", cause="no message"), ENV, job, tmp_path)
    assert found.node == culprit
    assert f"--set run_on_cpu={culprit}" in found.hints[0]
    assert "runs" in found.cause


def test_says_so_when_no_part_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "run_job", lambda *_a, **_k: {})
    model = for_horizon(small_net(), 1)
    target, options = Registry().target("j5"), BuildOptions()
    job = Job(model, "bayes", chip_inputs(model, options, "featuremap"), wanted(model, target, options), {})
    found = crash.blame(AccelError("died", code="failed.compiler-crash"), ENV, job, tmp_path)
    assert not found.node
    assert "real thresholds" in found.hints[-1]

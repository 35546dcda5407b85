"""The Horizon toolchain, installed for real."""

from __future__ import annotations

import subprocess

import pytest
from accel.toolchain.find import status
from accel.toolchain.spec import Environment
from accel_horizon.toolchain import HORIZON, prove

pytestmark = pytest.mark.toolchain("horizon")


def test_it_compiles_and_simulates(horizon_toolchain: Environment) -> None:
    assert status(HORIZON).state == "ready"
    assert prove(horizon_toolchain).startswith("hbdk 3.49.15")


def test_the_stand_in_for_torch_says_so(horizon_toolchain: Environment) -> None:
    code = "import torch, torch.onnx.symbolic_helper; torch.zeros(3)"
    done = subprocess.run([horizon_toolchain.python, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "torch.zeros was used, but this toolchain holds only a stand-in" in done.stderr

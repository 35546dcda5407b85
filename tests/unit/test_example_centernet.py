"""The CenterNet example, small: network, decoder, truth and recipe fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "centernet_mlu370"


@pytest.mark.slow
def test_the_recipe_runs_in_all_modes(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "make.py"), str(tmp_path / "work"), "--width", "0.25", "--size", "128"]
    subprocess.run([*command, "--pictures", "4"], check=True, capture_output=True)
    truth = json.loads((tmp_path / "work" / "truth.json").read_text())
    assert len(truth["annotations"]) > 10
    (tmp_path / "accel.toml").write_text((EXAMPLE / "accel.toml").read_text())
    start = "from accel.cli.main import main; main()"
    words = ["recipe", "run", str(tmp_path / "accel.toml"), "--json", "--no-cache"]
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["reports"]
    found = {r["subject"]["precision"]: {m["name"]: m["value"] for m in r["metrics"]} for r in reports}
    assert found["force_float32"]["AP"] == pytest.approx(1)
    assert found["force_float16"]["AP"] > 0.95
    assert found["qint8_mixed_float16"]["AP50"] > 0.5
    assert found["force_float16"]["sqnr"] > 40

"""The packages as a user installs them: wheels in an environment of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.network
def test_core_and_one_vendor_alone(tmp_path, tiny) -> None:
    """The driver then knows this vendor's chips and nothing of the others, and compiles."""
    uv = [sys.executable, "-m", "uv"]
    venv = tmp_path / "venv"
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    packages = [str(ROOT / "core"), str(ROOT / "plugins" / "sophon")]
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), *packages], check=True)

    def accel(*words: object) -> dict:
        command = [str(venv / "bin" / "accel"), *map(str, words), "--json"]
        env = {"PATH": "", "HOME": str(tmp_path), "ACCEL_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    listed = accel("targets")
    assert {t["package"] for t in listed["targets"]} == {"accel-sophon"} and listed["problems"] == []
    assert {"bm1684", "bm1684x", "bm1688", "cv186x", "bm1682"} <= {t["name"] for t in listed["targets"]}
    built = accel("compile", tiny[0], "-t", "bm1684", "-d", tiny[1], "-o", "out")["artifacts"][0]
    assert built["backend"] == "reference" and (tmp_path / built["path"] / "manifest.json").is_file()


def test_core_never_imports_a_vendor() -> None:
    vendors = ("accel_sophon", "accel_horizon", "accel_mlu")
    for file in (ROOT / "core").rglob("*.py"):
        text = file.read_text()
        assert not [v for v in vendors if v in text], file


@pytest.mark.parametrize("vendor", ["sophon", "horizon", "mlu"])
def test_a_plugin_imports_neither_driver_nor_command_line(vendor) -> None:
    for file in (ROOT / "plugins" / vendor).rglob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]):
                assert not words[1].startswith(("accel.driver", "accel.cli", "accel.building")), f"{file}: {line}"

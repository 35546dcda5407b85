"""What starting costs: counted in modules, because seconds depend on the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numpy", "onnx", "onnxruntime", "onnxslim", "PIL", "boost_histogram", "pluggy", "stevedore", "msgspec"}
HEAVY |= {"rich", "pydantic", "click"}
BUDGET = 240
"""Modules of `accel targets`; it is about 210, of which a bare interpreter has 40."""


def modules_of(*words: str, path: str = "") -> set[str]:
    code = (
        "import sys, json\n"
        "from accel.cli.main import run\n"
        f"assert run({list(words)!r}) == 0\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    env = {"PYTHONPATH": path, "PATH": ""} if path else None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("targets",), ("compile", "--help")])
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    found = modules_of(*words)
    assert not {m.split(".")[0] for m in found} & HEAVY
    assert not [m for m in found if m.startswith(("accel_", "accel.builtin", "accel.driver"))]
    assert len(found) < BUDGET


def test_help_imports_no_command() -> None:
    from accel.cli.app import COMMANDS

    assert not modules_of("--help") & {f"accel.cli.{name}" for name in COMMANDS}


def test_fifty_plugins_cost_no_import(tmp_path: Path) -> None:
    for at in range(50):
        package = tmp_path / f"accel_many{at}"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('must not be imported to be listed')")
        info = tmp_path / f"accel_many{at}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: accel-many{at}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[accel.targets]\nmany{at} = accel_many{at}:CHIP\n")
    found = modules_of("targets", path=str(tmp_path))
    assert not [m for m in found if m.startswith("accel_many")]
    assert len(found) < BUDGET

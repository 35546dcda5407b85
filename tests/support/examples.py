"""Running the deployments of examples/ as a reader of their pages does, in a folder of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"


def make(example: str, folder: Path, *words: str, script: str = "make.py") -> None:
    """``python make.py FOLDER/work WORDS``."""
    command = [sys.executable, str(EXAMPLES / example / script), str(folder / "work"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def recipe(example: str, folder: Path, *changes: tuple[str, str], name: str = "accel.toml") -> Path:
    """The example's recipe beside its inputs, with texts of it replaced."""
    text = (EXAMPLES / example / name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


def run(path: Path, *words: str) -> dict[str, Any]:
    """``accel recipe run PATH --json WORDS``: what it printed."""
    start = "from accel.cli.main import main; main()"
    command = [sys.executable, "-c", start, "recipe", "run", str(path), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def figures(reports: list[dict[str, Any]], *keys: str) -> dict[tuple[str, ...], dict[str, float]]:
    """Figures by name, by the reports' words for ``keys``."""
    return {tuple(r["subject"][k] for k in keys): {m["name"]: m["value"] for m in r["metrics"]} for r in reports}

"""A stand-in SDK tree: NEUWARE_HOME with mm_run, an interpreter that imports the fake packages, device nodes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parent


class FakeSdk:
    """The tree, and what was called in it."""

    def __init__(self, root: Path, monkeypatch: Any, cards: int = 1) -> None:
        self.home = root / "neuware"
        self.trace_file = root / "trace.jsonl"
        (self.home / "bin").mkdir(parents=True)
        (self.home / "lib64").mkdir()
        self.monkeypatch = monkeypatch
        self.variables = {"PYTHONPATH": str(FAKES), "FAKE_MM_TRACE": str(self.trace_file), "FAKE_MM_CARDS": str(cards)}
        self.python = self.home / "bin" / "python3.7"
        self._write()
        tool = self.home / "bin" / "mm_run"
        shutil.copy(FAKES / "mm_run", tool)
        tool.write_text(tool.read_text().replace("/usr/bin/env python3", sys.executable, 1))
        devices = root / "dev"
        devices.mkdir()
        for number in range(cards):
            (devices / f"cambricon_dev{number}").touch()
        monkeypatch.setenv("NEUWARE_HOME", str(self.home))
        monkeypatch.setenv("ACCEL_MLU_DEVICES", str(devices / "cambricon_dev*"))

    def set(self, **variables: str) -> None:
        """Variables of the SDK's Python and tools."""
        self.variables.update(variables)
        self._write()

    def _write(self) -> None:
        lines = [f"export {name}='{value}'" for name, value in self.variables.items()]
        self.python.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} "$@"', ""]))
        self.python.chmod(0o755)

    def calls(self) -> list[list[Any]]:
        """Every call since the last time."""
        if not self.trace_file.exists():
            return []
        found = [json.loads(line) for line in self.trace_file.read_text().splitlines()]
        self.trace_file.unlink()
        return found

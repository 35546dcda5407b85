"""What every benchmark reports: a figure beside the bar it has to meet."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        what: What was measured.
        value: The figure that is judged.
        bar: Its limit; None: for information.
        at_least: The bar is a lower limit, else an upper one.
        unit: ``x`` for a ratio, ``s``, ``MB`` ...
        detail: The figures it comes from.
    """

    what: str
    value: float
    bar: float | None = None
    at_least: bool = False
    unit: str = "x"
    detail: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def cells(self) -> tuple[str, str, str, str, str]:
        """As text."""
        verdict = {True: "pass", False: "FAIL", None: ""}[self.passed]
        sign = ">=" if self.at_least else "<="
        bar = "" if self.bar is None else f"{sign} {self.bar:g} {self.unit}"
        return self.what, f"{self.value:.3g} {self.unit}", bar, verdict, self.detail


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = ["| what | measured | bar | | from |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in rows)])


def child(script: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, float | str]:
    """Run a script of this folder in a process of its own; it prints one JSON object on its last line."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )
    found: dict[str, float | str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def own_cpu() -> float:
    """CPU seconds (user + system) of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def own_peak() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

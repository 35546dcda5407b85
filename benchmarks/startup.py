"""Start-up of the command line: CPU seconds of ``accel --help`` and ``accel targets``, also with 50 foreign plugins."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from table import Row

PLUGINS = 50
FORBIDDEN = ("numpy", "onnx", "onnxruntime")
TARGET = """
from accel.target import Numerics, Target
import sys
sys.modules[__name__].LOADED = True
CHIP = Target({name!r}, {name!r}, "a toy", {{"fp32": Numerics("fp32")}})
"""


def toys(folder: Path) -> None:
    """Fifty installed distributions, each with a chip, as pip leaves them."""
    for at in range(PLUGINS):
        name = f"toychip{at}"
        (folder / f"{name}.py").write_text(TARGET.format(name=name))
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[accel.targets]\n{name} = {name}:CHIP\n")


def cpu(arguments: list[str], path: str = "", repeats: int = 5) -> tuple[float, str]:
    """The least CPU seconds of some runs of ``accel``, and what it printed."""
    least, printed = float("inf"), ""
    program = [str(Path(sys.executable).with_name("accel")), *arguments]
    for _ in range(repeats):
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
        ) as process:
            assert process.stdout is not None
            printed = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"accel {' '.join(arguments)} failed")
        least = min(least, used.ru_utime + used.ru_stime)
    return least, printed


def imported(arguments: list[str]) -> set[str]:
    """Top-level packages that a command imports."""
    code = (
        f"import sys\nfrom accel.cli.main import run\nassert run({arguments!r}) == 0\n"  # main() leaves for good
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def rows() -> Iterator[Row]:
    """Everything this benchmark shows."""
    empty = min(_python() for _ in range(5))
    for command in (["--help"], ["targets"]):
        seconds, _ = cpu(command)
        said = f"of these {empty:.2f} for Python itself"
        yield Row(f"accel {' '.join(command)}: CPU", seconds, 0.15, unit="s", detail=said)
        heavy = sorted(imported(command) & set(FORBIDDEN))
        heavy += [name for name in imported(command) if name.startswith("accel_")]
        yield Row(f"accel {' '.join(command)}: heavy imports", len(heavy), 0, unit="", detail=", ".join(heavy))
    with tempfile.TemporaryDirectory() as folder:
        toys(Path(folder))
        seconds, printed = cpu(["targets"], folder)
        if sum(f"toychip{at}" in printed for at in range(PLUGINS)) != PLUGINS:
            raise SystemExit("accel targets does not list the toy chips")
        yield Row(f"accel targets with {PLUGINS} more plugins: CPU", seconds, 0.3, unit="s")


def _python() -> float:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    for row in rows():
        print(*row.cells(), sep="  |  ", flush=True)

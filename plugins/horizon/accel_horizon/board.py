"""Measured speed, where this machine is a board: ``hrt_model_exec perf`` and what it prints.

The tool comes with the board's system. Its options and its closing lines (``Running condition``, ``Perf result``) are
those of the RDK X3 and X5 manuals, "hrt_model_exec"; some releases begin the lines with a dash.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from accel import progress
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.report import Metric, Report, Table
from accel.toolchain import process
from accel.toolchain.find import require
from accel.toolchain.spec import Environment, Toolchain

from accel_horizon.profile import NAMES, SOURCE, read_profile

TOOL = "hrt_model_exec"
FRAMES = 1000
MOST_THREADS = 8
"""The tool's own limit."""

_LINES = {
    "fps": (re.compile(r"Frame\s+rate\s+is:\s*([\d.]+)\s*FPS"), "FPS"),
    "latency": (re.compile(r"Average\s+latency\s+is:\s*([\d.]+)\s*ms"), "ms"),
    "thread_num": (re.compile(r"Thread number\s+is:\s*(\d+)"), ""),
    "frame_count": (re.compile(r"Frame count\s+is:\s*(\d+)"), ""),
}


def locate() -> Environment | None:
    """The board's own tools, where this is a board."""
    found = shutil.which(TOOL)
    if found is None:
        return None
    tool = Path(found)
    return Environment("horizon-board", "", tool.parent, Path(sys.executable), bin=(tool.parent,))


BOARD = Toolchain(
    name="horizon-board",
    version="",
    summary="hrt_model_exec of a Horizon board's own system: measured speed",
    kind="system",
    locate=locate,
)


def command(model: Path, options: RunOptions, profile: Path) -> list[str]:
    """The call of the tool.

    Raises:
        AccelError: ``usage.threads`` for more threads than the tool has.
    """
    threads = options.threads or 1
    if threads > MOST_THREADS:
        raise AccelError(
            f"{TOOL} runs at most {MOST_THREADS} threads", code="usage.threads", hints=[f"--threads {MOST_THREADS}"]
        )
    given = {
        "model_file": model,
        "thread_num": threads,
        "core_id": options.core,
        "frame_count": options.frames or FRAMES,
        "profile_path": profile,
    }
    return [TOOL, "perf", *(f"--{name}={value}" for name, value in given.items())]


def measure(artifact: Artifact, options: RunOptions) -> Report:
    """Run the artifact's ``.hbm`` on this board.

    Raises:
        AccelError: ``toolchain.missing`` when this is no board; ``failed.perf`` when the tool fails or says nothing.
    """
    environment = require(BOARD)
    model = artifact.file("model").resolve()
    with tempfile.TemporaryDirectory(prefix="accel-board-") as name:
        folder = Path(name)
        argv = command(model, options, folder)
        with progress.step(f"{TOOL} measures {options.frames or FRAMES} frames"):
            done = process.run(environment, list(argv), cwd=folder, log=folder / "log", timeout=3600, stage="perf")
        if done.rc:
            raise AccelError(
                f"{TOOL} ended with exit code {done.rc}",
                code="failed.perf",
                stage="perf",
                cause=done.tail(4),
                hints=[f"Is this board a {artifact.manifest.target}, and is its BPU free?"],
            )
        metrics = parse(done.text())
        nodes = _nodes(folder)
    argv[-1] = "--profile_path=."
    subject = {"target": artifact.manifest.target, "precision": artifact.manifest.precision, "core": _core(options)}
    title = f"performance of {artifact.manifest.name} on this board"
    return Report(title, tuple(metrics), nodes, (), (" ".join(argv),), subject)


def parse(text: str) -> list[Metric]:
    """The figures of the tool's closing lines.

    Raises:
        AccelError: ``failed.perf`` when there is no frame rate: the tool ended before it measured.
    """
    found = {name: pattern.search(text) for name, (pattern, _) in _LINES.items()}
    if found["fps"] is None:
        last = [line for line in text.splitlines() if line.strip()][-4:]
        raise AccelError(f"{TOOL} reported no frame rate", code="failed.perf", stage="perf", cause="\n".join(last))
    return [
        Metric(name, float(match[1]), unit, "measured", SOURCE)
        for name, (_, unit) in _LINES.items()
        if (match := found[name])
    ]


def _nodes(folder: Path) -> tuple[Table, ...]:
    """Times by node, where the tool left its profile."""
    profile = next((folder / name for name in NAMES if name.endswith(".log") and (folder / name).is_file()), None)
    return tuple(replace(t, title="nodes") for t in read_profile(profile).tables) if profile else ()


def _core(options: RunOptions) -> str:
    return str(options.core) if options.core else "any"

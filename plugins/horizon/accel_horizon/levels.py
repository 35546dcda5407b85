"""The same quantised model compiled at several optimisation levels: speed against compile time."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from accel import progress
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.report import Table

from accel_horizon.estimates import metrics, read_summary
from accel_horizon.failures import failure
from accel_horizon.toolchain import HORIZON, VENDOR_SIDE

COLUMNS = ("level", "FPS", "latency ms", "DDR bytes a frame", "compile s", "size B")


def compare(artifact: Artifact, levels: tuple[int, ...]) -> Table:
    """A row a level; figures are simulated, compile seconds are measured here.

    Raises:
        AccelError: ``usage.opt`` for a level that hbdk-cc has not.
    """
    from accel.toolchain.find import require
    from accel.toolchain.process import run

    bad = [level for level in levels if level not in (0, 1, 2, 3)]
    if bad:
        raise AccelError(f"hbdk-cc has no level {bad[0]}", code="usage.opt", hints=["Choose from 0, 1, 2, 3."])
    env = require(HORIZON)
    flags = artifact.manifest.options["flags"]
    rows = []
    with progress.step("Compiling at each level", len(levels)) as step:
        for level in levels:
            with tempfile.TemporaryDirectory(prefix="accel-horizon-") as name:
                folder = Path(name)
                argv: list[str | Path] = [
                    env.python,
                    VENDOR_SIDE / "compile_level.py",
                    artifact.file("quantized").resolve(),
                    artifact.file("float").resolve(),
                    str(artifact.manifest.details["march"]),
                    re.sub(r"--O\d", f"--O{level}", flags),
                ]
                done = run(env, argv, cwd=folder, log=folder / "log", timeout=4 * 3600, stage="perf")
                if done.rc:
                    raise failure(done, None, stage="perf")
                found = {m.name: m.value for m in metrics([read_summary(p) for p in sorted(folder.glob("*.json"))])}
                seconds = float((folder / "seconds").read_text())
                size = sum(p.stat().st_size for p in folder.glob("*.hbm"))
            rows.append((f"O{level}", found["fps"], found["latency"], found["ddr_per_frame"], seconds, size))
            step.advance()
    return Table("optimisation levels", COLUMNS, tuple(rows))

"""Measured speed: ``mm_run`` and what it prints, in the older and the newer form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from accel import progress
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.report import Metric, Report, Table
from accel.toolchain import process
from accel.toolchain.find import require

from accel_mlu.magicmind.run import card_number
from accel_mlu.magicmind.toolchain import MAGICMIND, mm_run

ITERATIONS = 1000
_NUMBER = r"([0-9.]+(?:[eE][+-]?[0-9]+)?)"
# Newer builds append "with total batch sizes: ..." to the line: the first number is the figure.
_THROUGHPUT = re.compile(rf"Throughput \(qps\)\s*:\s*{_NUMBER}")
_PHASES = (("Total Latency", "total"), ("H2D Summary", "H2D"), ("Compute", "compute"), ("D2H Summary", "D2H"))
_LATENCY = re.compile(r"Latency\s*\((?P<clock>host|dev) clock, ms\)\s*:")
_VALUES = {
    "min": rf"min:\s*{_NUMBER}",
    "max": rf"max:\s*{_NUMBER}",
    "mean": rf"mean:\s*{_NUMBER}",
    "median": rf"median:\s*{_NUMBER}",
    "90%": rf"\(90%\)\s*:?\s*{_NUMBER}",
    "95%": rf"\(95%\)\s*:?\s*{_NUMBER}",
    "99%": rf"\(99%\)\s*:?\s*{_NUMBER}",
}


def parse(text: str) -> tuple[float, list[tuple[object, ...]]]:
    """Throughput in samples a second, and latency rows: phase, clock, min, max, mean, median, 90, 95, 99 % in ms.

    Raises:
        AccelError: ``failed.perf`` when the text holds no throughput (the tool failed before it measured).
    """
    found = _THROUGHPUT.search(text)
    if found is None:
        lines = [line for line in text.splitlines() if line.strip()]
        raise AccelError("mm_run reported no throughput", code="failed.perf", cause="\n".join(lines[-4:]))
    rows: list[tuple[object, ...]] = []
    phase = ""
    for line in text.splitlines():
        if not line.lstrip().startswith(("Latency", "Interface")):
            phase = next((name for word, name in _PHASES if word in line and "Summary" in line), phase)
            continue
        clock = _LATENCY.search(line)
        if clock and phase:
            values = [re.search(pattern, line) for pattern in _VALUES.values()]
            rows.append((phase, clock["clock"], *(float(v[1]) if v else None for v in values)))
    return float(found[1]), rows


def command(tool: Path, model: Path, batch: int, device: int, options: RunOptions) -> list[str]:
    """The ``mm_run`` call for one batch."""
    given = {
        "magicmind_model": model,
        "batch_size": batch,
        "devices": device,
        "threads": options.threads or 1,
        "iterations": options.frames or ITERATIONS,
    }
    return [str(tool), *(str(part) for name, value in given.items() for part in (f"--{name}", value))]


def measure(artifact: Artifact, options: RunOptions, batches: Sequence[int]) -> Report:
    """Run ``mm_run`` on a card for each batch.

    Raises:
        AccelError: ``toolchain.*`` without SDK, tool or card; ``failed.perf`` when the tool fails.
    """
    number = card_number(options)
    environment = require(MAGICMIND)
    tool = mm_run(environment)
    model = artifact.file("model").resolve()
    metrics: list[Metric] = []
    tables: list[Table] = []
    commands: list[str] = []
    for batch in batches:
        argv = command(tool, model, batch, number, options)
        log = Path(artifact.path).with_name(f"{artifact.path.name}.mm_run.log")
        log.unlink(missing_ok=True)
        with progress.step(f"mm_run measures batch {batch} on card {number}"):
            done = process.run(environment, argv, cwd=model.parent, log=log, timeout=1800, stage="perf")
        text = done.text()
        if done.rc:
            raise AccelError(
                f"mm_run ended with exit code {done.rc}",
                code="failed.perf",
                stage="perf",
                cause=done.tail(4),
                log=log,
                hints=["Was the model built for this card's architecture and no more clusters than it has?"],
            )
        log.unlink(missing_ok=True)
        qps, rows = parse(text)
        metrics.append(Metric(f"throughput b{batch}", qps, "FPS", "measured", "mm_run"))
        for phase, clock, _least, _most, mean, *_ in rows:
            if phase in ("compute", "total") and clock == "host" and isinstance(mean, float):
                metrics.append(Metric(f"{phase} b{batch}", mean, "ms", "measured", "mm_run, mean by the host's clock"))
        columns = ("phase", "clock", "min", "max", "mean", "median", "90%", "95%", "99%")
        tables.append(Table(f"latency at batch {batch}, ms", columns, tuple(rows)))
        commands.append(" ".join(argv))
    subject = {"target": artifact.manifest.target, "precision": artifact.manifest.precision, "card": str(number)}
    return Report("mm_run", tuple(metrics), tuple(tables), (), tuple(commands), subject)

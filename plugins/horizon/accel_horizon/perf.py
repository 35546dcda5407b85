"""``accel_perf``: the vendor's static estimate of a compiled model, by subgraph and layer.

hbdk-perf simulates the program's instructions with the chip's timing; figures are ``simulated``. They are for one
core without other load, and leave out what the host does around the program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.report import Metric, Report, Table

SOURCE = "hbdk-perf"
_LAYER_COLUMNS = ("layer", "operations", "output shape", "compute", "load and store", "active")


def perf(artifact: Artifact, options: RunOptions) -> Report:
    """See :meth:`accel.hookspecs.AccelSpec.accel_perf`.

    With ``options.opt_levels`` the quantised model is compiled once more at each level and the levels are compared.
    """
    summaries = read_summaries(artifact)
    if not summaries:
        raise AccelError(f"{artifact.path} holds no static performance", code="artifact.incomplete")
    tables = [_layers(name, s) for name, s in summaries.items() if s.get("layer details")]
    notes = [
        "one core, no other load; the host's part (quantising inputs, nodes on the CPU) is not in these figures",
    ]
    levels = tuple(getattr(options, "opt_levels", ()))
    if levels:
        from accel_horizon.levels import compare

        tables.insert(0, compare(artifact, levels))
    manifest = artifact.manifest
    subject = {
        "target": manifest.target,
        "precision": manifest.precision,
        "artifact": str(artifact.path),
        "flags": manifest.options.get("flags", ""),
    }
    return Report(
        f"static performance of {manifest.name} on {manifest.target}",
        metrics=tuple(metrics(list(summaries.values()))),
        tables=tuple(tables),
        notes=tuple(notes),
        commands=(f"accel perf {artifact.path}",),
        subject=subject,
    )


def read_summaries(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """The estimator's ``summary`` of each subgraph, by file stem."""
    made = {}
    for entry in artifact.manifest.files:
        if entry.role == "report" and entry.path.endswith(".json"):
            made[Path(entry.path).stem] = read_summary(artifact.path / entry.path)
    return made


def read_summary(path: Path) -> dict[str, Any]:
    """``summary`` of one of the estimator's JSON files.

    Raises:
        AccelError: ``artifact.unreadable`` when it is no such file.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AccelError(
            f"{path} is no static performance of hbdk", code="artifact.unreadable", cause=str(error)
        ) from error
    if not isinstance(summary, dict):
        raise AccelError(f"{path} is no static performance of hbdk", code="artifact.unreadable")
    return summary


def metrics(summaries: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Figures of a whole model: its subgraphs run one after the other."""
    latency_us = sum(float(s["latency (us)"]) for s in summaries)
    frames = int(summaries[0].get("frame per run", 1)) or 1
    fps = float(summaries[0]["FPS"]) if len(summaries) == 1 else frames * 1e6 / latency_us
    moved = sum(int(s["DDR bytes per frame"]) for s in summaries)
    operations = sum(int(s["BPU OPs per frame (effective)"]) for s in summaries)
    cores = int(summaries[0].get("BPU core number", 1))

    def made(name: str, value: float, unit: str) -> Metric:
        return Metric(name, value, unit, "simulated", SOURCE)

    found = [
        made("fps", fps, "FPS"),
        made("latency", latency_us / 1000, "ms"),
        made("ddr_per_frame", moved, "B"),
        made("ddr_bandwidth", moved * fps, "B/s"),
        made("operations_per_frame", operations, "op"),
        made("operations_per_second", operations * fps, "op/s"),
        made("cores", cores, ""),
        made("subgraphs", len(summaries), ""),
    ]
    used = summaries[0].get("BPU utilization (effective)")
    if len(summaries) == 1 and isinstance(used, (int, float)):
        found.append(made("utilisation", float(used), ""))
    return found


def _layers(name: str, summary: Mapping[str, Any]) -> Table:
    """The estimator's own layer table; its texts are kept: they round to whole microseconds."""
    rows = summary["layer details"][1:]
    kept = tuple((r[0], int(str(r[1]).replace(",", "")), *[str(c) for c in (r[2], *r[4:7])]) for r in rows)
    return Table(f"layers of {name}", _LAYER_COLUMNS, kept)


def microseconds(text: str) -> float | None:
    """``"2 us (26.3% of model)"`` as 2.0; ``"<1 us"`` as 0.5; None for anything else."""
    found = re.match(r"\s*(<?)\s*([\d.,]+)\s*(us|ms)", text)
    if not found:
        return 0.0 if text.strip() == "0" else None
    value = float(found.group(2).replace(",", "")) * (1000 if found.group(3) == "ms" else 1)
    return value / 2 if found.group(1) else value

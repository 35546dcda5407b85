"""The vendor's static estimates as hbdk-perf writes them: one JSON file a subgraph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel.errors import AccelError
from accel.report import Metric, Table

SOURCE = "hbdk-perf"
_LAYER_COLUMNS = ("layer", "operations", "output shape", "compute", "load and store", "active")


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


def layers(name: str, summary: Mapping[str, Any]) -> Table:
    """The estimator's own layer table; its texts are kept: they round to whole microseconds."""
    rows = summary["layer details"][1:]
    kept = tuple((r[0], int(str(r[1]).replace(",", "")), *[str(c) for c in (r[2], *r[4:7])]) for r in rows)
    return Table(f"layers of {name}", _LAYER_COLUMNS, kept)

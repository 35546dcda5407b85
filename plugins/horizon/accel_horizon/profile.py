"""What ``hrt_model_exec perf --profile_path`` writes on a board: ``profile.log`` and ``profile.csv`` (newer tools
write ``profiler.*``).

The log is two JSON objects with a line of ``***`` between: the run as a whole (``perf_result``,
``running_condition``), then times in ms by processor (``chip_latency``, or ``processor_latency`` since 2024), by node
(``model_latency``) and by task (``task_latency``), each with ``avg_time``, ``min_time`` and ``max_time``.
Source: the description of hrt_model_exec in the RDK X3 and X5 manuals.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accel.errors import AccelError
from accel.report import Metric, Report, Table

NAMES = ("profile.log", "profiler.log", "node_profiler.log", "profile.csv", "profiler.csv")
SOURCE = "hrt_model_exec"
_COLUMNS = ("node", "average ms", "least ms", "most ms")


def read_profile(path: Path) -> Report:
    """Figures measured on a board.

    Raises:
        AccelError: ``usage.profile`` when the file is none of the two, or cut off.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".csv":
        return _from_csv(path, text)
    parts = list(_objects(path, text))
    merged: dict[str, Any] = {}
    for part in parts:
        merged.update(part)
    whole = merged.get("perf_result")
    if not isinstance(whole, dict):
        raise _wrong(path, "it has no perf_result")
    condition = merged.get("running_condition") or {}
    chips = merged.get("processor_latency") or merged.get("chip_latency") or {}
    tasks = merged.get("task_latency") or {}
    metrics = [_measured("fps", whole.get("FPS"), "FPS"), _measured("latency", whole.get("average_latency"), "ms")]
    metrics += [_measured(f"{n.split('_')[0].lower()}_time", t.get("avg_time"), "ms") for n, t in chips.items()]
    metrics += [_measured(_words(n), t.get("avg_time"), "ms") for n, t in tasks.items()]
    metrics += [_measured(n, condition.get(n), "") for n in ("thread_num", "frame_count")]
    rows = tuple(_nodes(merged.get("model_latency") or {}))
    return Report(
        f"performance of {condition.get('model_name', path.stem)} on a board",
        metrics=tuple(m for m in metrics if m.value is not None),
        tables=(Table("nodes", _COLUMNS, rows),) if rows else (),
        notes=() if rows else ("the file has no times by node: was it cut off?",),
        subject={str(k): str(v) for k, v in condition.items()},
        commands=(f"accel inspect {path}",),
    )


def _objects(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for part in text.split("***"):
        if not part.strip():
            continue
        try:
            found = json.loads(part)
        except ValueError as error:
            raise _wrong(path, str(error)) from error
        if not isinstance(found, dict):
            raise _wrong(path, "it holds no objects")
        yield found


def _nodes(times: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, time in times.items():
        if not isinstance(time, dict):
            continue
        if "avg_time" in time:
            yield name, time["avg_time"], time.get("min_time"), time.get("max_time")
        else:  # stages of a node
            yield from ((f"{name} {row[0]}", *row[1:]) for row in _nodes(time))


def _from_csv(path: Path, text: str) -> Report:
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    header = [cell.strip() for cell in rows[0]] if rows else []
    average = next((at for at, cell in enumerate(header) if "avg" in cell.lower() or "average" in cell.lower()), None)
    if average is None or len(header) < 2:
        raise _wrong(path, "its first line names no column of average times")
    table = []
    for row in rows[1:]:
        if len(row) != len(header):
            raise _wrong(path, f"line {rows.index(row) + 1} has {len(row)} fields, the first has {len(header)}")
        table.append(tuple(_number(cell) for cell in row))
    total = sum(v for r in table if isinstance(v := r[average], (int, float)))
    return Report(
        f"{path.name}: times by node on a board",
        metrics=(_measured("nodes_time", total, "ms"), _measured("nodes", len(table), "")),
        tables=(Table("nodes", tuple(header), tuple(table)),),
        commands=(f"accel inspect {path}",),
    )


def _number(cell: str) -> object:
    try:
        return float(cell)
    except ValueError:
        return cell.strip()


def _measured(name: str, value: object, unit: str) -> Metric:
    return Metric(name, value if isinstance(value, (int, float)) else None, unit, "measured", SOURCE)


def _words(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _wrong(path: Path, why: str) -> AccelError:
    return AccelError(
        f"{path} is no profile of hrt_model_exec",
        code="usage.profile",
        cause=why,
        hints=["It is written by: hrt_model_exec perf --model_file M.hbm --profile_path ."],
    )

"""accel_perf: the compiler's own cycle profile where the chip writes one, else a roofline that says it is one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.artifact import Artifact
from accel.builtin.roofline import Costs, Machine, NodeCost, count, predict
from accel.errors import AccelError
from accel.model import Model
from accel.options import RunOptions
from accel.report import Metric, Report, Table
from accel.target import Target

from accel_sophon.device import measured
from accel_sophon.runtime import chosen_device

_COMMAND = re.compile(r"(\w+?)_(\d+)\|(\w+)\|s:(\d+)\|b:\d+\|g:\d+\|e:(\d+)\|t:(\d+)(?:\|dr:(\d)\|sz:(\d+))?")

BANDWIDTH = {"bm1684": (34.1e9, "LPDDR4X-4266 on 64 bits: an assumption, nothing is published")}
"""Bytes a second where the target has no published figure."""


@dataclass(frozen=True)
class Profile:
    """One core's profile.

    Attributes:
        cycles: Of a run.
        milliseconds: Of a run, by the profiler's own clock.
        flops: Operations, as the profiler counts.
        read: Bytes from DRAM.
        written: Bytes to DRAM.
        layers: (layer, line in the final MLIR, compute cycles, transfer cycles, bytes) in order of first use.
    """

    cycles: int
    milliseconds: float
    flops: int
    read: int
    written: int
    layers: tuple[tuple[str, int, int, int, int], ...]


def parse_profile(text: str) -> Profile:
    """Read ``compiler_profile_<core>.txt``.

    Raises:
        AccelError: ``failed.profile`` when it has no total.
    """
    total = re.search(r"total_cycle:(\d+)", text)
    summary = re.search(r"flops: (\d+), runtime: ([\d.]+)ms", text)
    if not total or not summary:
        raise AccelError("the compiler's profile has no total", code="failed.profile", stage="perf")
    compute: dict[tuple[str, int], int] = defaultdict(int)
    transfer: dict[tuple[str, int], int] = defaultdict(int)
    moved: dict[tuple[str, int], int] = defaultdict(int)
    for name, line, _, _, _, cycles, direction, size in _COMMAND.findall(text):
        key = (name, int(line))
        if direction:
            transfer[key] += int(cycles)
            moved[key] += int(size)
        else:
            compute[key] += int(cycles)
    order = list(dict.fromkeys([(n, int(at)) for n, at, *_ in _COMMAND.findall(text)]))
    order.sort(key=lambda k: k[1])
    traffic = dict(re.findall(r"\] (S2L|L2S):(\d+)", text))
    return Profile(
        int(total.group(1)),
        float(summary.group(2)),
        int(summary.group(1)),
        int(traffic.get("S2L", 0)),
        int(traffic.get("L2S", 0)),
        tuple((n, at, compute[n, at], transfer[n, at], moved[n, at]) for n, at in order),
    )


def perf(artifact: Artifact, options: RunOptions, target: Target) -> Report:
    """Time of a run: measured where there is a device, else by layer from the profile or the roofline.

    Raises:
        AccelError: ``usage.batch``, ``failed.profile``.
    """
    manifest = artifact.manifest
    batch = options.batch or manifest.batches[0]
    if batch not in manifest.batches:
        raise AccelError(f"the artifact does not run at batch {batch}", code="usage.batch", stage="perf")
    number = chosen_device(options.device, options.simulator)
    if number is not None:
        return measured(artifact, number, batch, options)
    subject = {"target": manifest.target, "precision": manifest.precision, "artifact": str(artifact.path)}
    commands = (f"accel perf {artifact.path}",)
    folder = artifact.path / "profile" / f"batch{batch}"
    files = sorted(folder.glob("*compiler_profile_*.txt")) if folder.is_dir() else []
    if files:
        return _simulated(files, batch, subject, commands)
    return _roofline(manifest.details, target, manifest.precision, batch, subject, commands)


def _simulated(files: list[Path], batch: int, subject: dict[str, str], commands: tuple[str, ...]) -> Report:
    profiles = [parse_profile(f.read_text(encoding="utf-8", errors="replace")) for f in files]
    slowest = max(profiles, key=lambda p: p.cycles)
    source = "tpu_mlir's cycle profile"
    metrics = (
        Metric("latency", slowest.milliseconds, "ms", "simulated", source),
        Metric("fps", 1000 * batch / slowest.milliseconds, "FPS", "simulated", source),
        Metric("cycles", slowest.cycles, "cycles", "simulated", source),
        Metric("dram_read", sum(p.read for p in profiles), "B", "simulated", source),
        Metric("dram_written", sum(p.written for p in profiles), "B", "simulated", source),
    )
    rows = tuple(
        (name, line, work, wait, moved)
        for name, line, work, wait, moved in slowest.layers
        if name not in ("Load", "Store") or moved
    )
    columns = ("operation", "line", "compute cycles", "transfer cycles", "bytes")
    return Report(
        title=f"cycle profile, batch {batch}, {len(files)} core(s)",
        metrics=metrics,
        tables=(Table("by operation (compute and transfers overlap)", columns, rows),),
        notes=("the profile counts one chip's own work; transfers from the host are not in it",),
        commands=commands,
        subject=subject,
    )


def costs_to_json(model: Model) -> dict[str, Any]:
    """What the roofline needs, for a manifest's details."""
    costs = count(model)
    return {
        "batch": costs.batch,
        "unknown": list(costs.unknown),
        "nodes": [[n.node, n.op_type, n.macs, n.weights, list(n.reads), list(n.writes)] for n in costs.nodes],
    }


def _roofline(
    details: Mapping[str, Any],
    target: Target,
    precision: str,
    batch: int,
    subject: dict[str, str],
    commands: tuple[str, ...],
) -> Report:
    held = details["costs"]
    nodes = tuple(NodeCost(n[0], n[1], n[2], n[3], tuple(n[4]), tuple(n[5])) for n in held["nodes"])
    costs = Costs(nodes, held["batch"], tuple(held["unknown"]))
    if target.dram_bandwidth is not None:
        bandwidth, source = target.dram_bandwidth.value, target.dram_bandwidth.source
    else:
        bandwidth, source = BANDWIDTH[target.arch]
    peak = target.peaks[precision]
    on_chip = int(target.on_chip_bytes.value) if target.on_chip_bytes else 0
    width = {"int8": 1.0, "fp16": 2.0, "bf16": 2.0}.get(precision, 4.0)
    found = predict(
        costs, Machine(peak.value, bandwidth, on_chip), batch=batch, weight_bytes=width, activation_bytes=width
    )
    why = f"roofline: {peak.value / 1e12:g} Tops ({peak.source}), {bandwidth / 1e9:g} GB/s ({source})"
    metrics = (
        Metric("latency", found.seconds * 1000, "ms", "predicted", why),
        Metric("fps", batch / found.seconds if found.seconds else None, "FPS", "predicted", why),
    )
    rows = tuple((n.node, n.op_type, n.macs, n.bytes, n.seconds * 1e6, n.bound) for n in found.layers if n.seconds)
    return Report(
        title=f"roofline of {target.name} {precision}, batch {batch}",
        metrics=metrics,
        tables=(Table("by layer", ("node", "op", "MACs", "bytes", "us", "bound"), rows),),
        notes=("a roofline is the least time the chip can need; real networks reach a part of it",),
        commands=commands,
        subject=subject,
    )

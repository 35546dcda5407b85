"""``accel_perf``: the vendor's static estimate of a compiled model, by subgraph and layer.

hbdk-perf simulates the program's instructions with the chip's timing; figures are ``simulated``. They are for one
core without other load, and leave out what the host does around the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.report import Report

from accel_horizon.board import locate, measure
from accel_horizon.estimates import layers, metrics, read_summary
from accel_horizon.levels import compare


def perf(artifact: Artifact, options: RunOptions) -> Report:
    """See :meth:`accel.hookspecs.AccelSpec.accel_perf`.

    With ``options.opt_levels`` the quantised model is compiled once more at each level and the levels are compared.
    On a board, or when a device is asked for, the board measures.
    """
    asked = options.device not in ("auto", "simulator")
    if asked or (options.device == "auto" and not options.opt_levels and locate() is not None):
        return measure(artifact, options)
    batch = options.batch or artifact.manifest.batches[0]
    summaries = read_summaries(artifact, batch)
    if not summaries:
        raise AccelError(f"{artifact.path} holds no static performance", code="artifact.incomplete")
    tables = [layers(name, s) for name, s in summaries.items() if s.get("layer details")]
    notes = [
        "one core, no other load; the host's part (quantising inputs, nodes on the CPU) is not in these figures",
    ]
    if options.opt_levels:
        tables.insert(0, compare(artifact, options.opt_levels))
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
        commands=(f"accel perf {artifact.path}" + (f" --batch {batch}" if len(manifest.batches) > 1 else ""),),
        subject=subject,
    )


def read_summaries(artifact: Artifact, batch: int) -> dict[str, dict[str, Any]]:
    """The estimator's ``summary`` of each subgraph at a batch, by file stem.

    Raises:
        AccelError: ``usage.batch`` when the artifact was not built for it.
    """
    manifest = artifact.manifest
    if batch not in manifest.batches:
        have = ", ".join(map(str, manifest.batches))
        raise AccelError(f"the artifact has no batch {batch}", code="usage.batch", hints=[f"It has: {have}."])
    prefixes = manifest.details["prefixes"]
    assert isinstance(prefixes, list)
    prefix = f"{prefixes[manifest.batches.index(batch)]}_subgraph_"
    made = {}
    for entry in manifest.files:
        name = Path(entry.path).name
        if entry.role == "report" and name.endswith(".json") and name.startswith(prefix):
            made[Path(entry.path).stem] = read_summary(artifact.path / entry.path)
    return made

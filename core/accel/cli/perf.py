"""``accel perf``."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli import flags
from accel.cli.results import show_reports


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=flags.PATH, metavar="ARTIFACT...")
@click.option("--device", default="auto", help="auto, simulator or a device number.")
@click.option("--batch", type=click.IntRange(1), help="Batch to look at; default: the artifact's first.")
@click.option("--opt", default="", metavar="0,1,...", help="Also compile at these levels and compare them.")
def command(artifacts: tuple[Path, ...], device: str, batch: int | None, opt: str) -> None:
    """Show an artifact's speed and memory.

    Every figure says whether it was measured on a device, simulated by the vendor's estimator or
    predicted by a formula.

    \b
    Examples:
      accel perf build/net-j5-int8
      accel perf build/*
      accel perf build/net-j5-int8 --opt 0,1,2,3
    """
    from dataclasses import replace

    from accel import driver
    from accel.options import RunOptions

    levels = tuple(int(v) for v in flags.numbers(opt, "--opt")) if opt else ()
    reports = []
    for path in artifacts:
        artifact = driver.open_artifact(path)
        m = artifact.manifest
        report = driver.perf(artifact, RunOptions(device=device, batch=batch, opt_levels=levels))
        subject = {"target": m.target, "precision": m.precision, "backend": m.backend, "artifact": str(path)}
        reports.append(replace(report, subject={**subject, **report.subject}))
    show_reports(reports)

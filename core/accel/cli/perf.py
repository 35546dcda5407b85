"""``accel perf``."""

from __future__ import annotations

from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.results import show_reports

app = family()


@app.command()
def perf(
    artifacts: flags.Artifacts,
    device: flags.Device = "auto",
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, metavar="N", help="Batch to look at; default: the artifact's first."),
    ] = None,
    opt: Annotated[
        str, typer.Option("--opt", metavar="0,1,...", help="Also compile at these levels and compare them.")
    ] = "",
) -> None:
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

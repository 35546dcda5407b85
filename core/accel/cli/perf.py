"""``accel perf``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.results import show_reports

app = family()
_device = partial(typer.Option, metavar="N", show_default=False)


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
    threads: Annotated[int, _device("--threads", min=1, help="On a device: threads that feed it.")] = 1,
    core: Annotated[int, _device("--core", min=0, help="On a device: core to run on, from 1; 0: any.")] = 0,
    frames: Annotated[int, _device("--frames", min=0, help="On a device: frames to measure over.")] = 0,
) -> None:
    """Show an artifact's speed and memory.

    Every figure says whether it was measured on a device, simulated by the vendor's estimator or
    predicted by a formula.

    \b
    Examples:
      accel perf build/net-j5-int8
      accel perf build/*
      accel perf build/net-j5-int8 --opt 0,1,2,3
      accel perf build/net-j5-int8 --device 0 --threads 8 --frames 1000
    """
    from dataclasses import replace

    from accel import driver
    from accel.options import RunOptions

    levels = tuple(int(v) for v in flags.numbers(opt, "--opt")) if opt else ()
    options = RunOptions(device=device, batch=batch, opt_levels=levels, threads=threads, core=core, frames=frames)
    reports = []
    for path in artifacts:
        artifact = driver.open_artifact(path)
        m = artifact.manifest
        report = driver.perf(artifact, options)
        subject = {"target": m.target, "precision": m.precision, "backend": m.backend, "artifact": str(path)}
        reports.append(replace(report, subject={**subject, **report.subject}))
    show_reports(reports)

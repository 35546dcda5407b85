"""``accel build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.grouped import Sections, grouped
from accel.cli.results import show_built

app = family()


@app.command(cls=Sections)
@grouped
def build(
    model: flags.Model,
    target: flags.Target,
    out: Annotated[Path, typer.Option("-o", metavar="DIR", help="The artifact's folder.")],
    build: flags.BuildFlags,
    data: flags.DataFlags,
    preprocessing: flags.PreprocessingFlags,
    parse: flags.ParseFlags,
    emit_script: Annotated[
        bool, typer.Option("--emit-script", help="Leave the script that builds in the vendor's container instead.")
    ] = False,
    no_cache: flags.NoCache = False,
) -> None:
    """Compile a network for one target.

    \b
    Examples:
      accel build net.onnx -t bm1684 --calibration net.calibration -o net-bm1684
      accel build net.onnx -t mlu370 -p force_float16 -o net-mlu370
    """
    from dataclasses import replace

    from accel import driver
    from accel.deployment import load_calibration
    from accel.errors import stage
    from accel.jobs import Job, calibration_missing, needs_calibration, preflight

    cache = flags.cache_of(no_cache)
    options = build.options(preprocessing, data.labels)
    if emit_script:
        options = replace(options, set={**options.set, "emit_script": "yes"})
    job = Job(driver.resolve(target), options, out)
    with stage("build"):
        preflight(job)
        if needs_calibration(job) and not (data.data or build.calibration):
            raise calibration_missing(job)
    if data.data:
        driver.require_data(data.data)
    parsed = driver.parse(model, parse.options(), cache=cache)
    samples = None
    if data.data:
        samples = driver.open_dataset(data.data, parsed, options.preprocessing, data.options())
        if options.calibrator == "vendor":
            job = replace(job, options=replace(options, dataset=samples))
    calibration = load_calibration(build.calibration)
    show_built(driver.build_jobs(parsed, [job], samples, calibration, data.calibrate_options(), cache))

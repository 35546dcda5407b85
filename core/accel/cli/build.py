"""``accel build``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli import flags
from accel.cli.results import show_built


@click.command()
@flags.model_argument
@flags.target_flag
@click.option("-o", "out", type=flags.PATH, required=True, help="The artifact's folder.")
@flags.build_flags
@flags.data_flags
@flags.preprocessing_flags
@flags.parse_flags
@click.option("--emit-script", is_flag=True, help="Leave the script that builds in the vendor's container instead.")
@flags.no_cache_flag
def command(model: str, target: str, out: Path, emit_script: bool, no_cache: bool, **given: Any) -> None:
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
    options = flags.build_options(given)
    if emit_script:
        options = replace(options, set={**options.set, "emit_script": "yes"})
    job = Job(driver.resolve(target), options, out)
    with stage("build"):
        preflight(job)
        if needs_calibration(job) and not (given["data"] or given["calibration"]):
            raise calibration_missing(job)
    parsed = driver.parse(model, flags.parse_options(given), cache=cache)
    data = None
    if given["data"]:
        data = driver.open_dataset(given["data"], parsed, options.preprocessing, flags.data_options(given))
        if options.calibrator == "vendor":
            job = replace(job, options=replace(options, dataset=data))
    calibration = load_calibration(given["calibration"])
    show_built(driver.build_jobs(parsed, [job], data, calibration, flags.calibrate_options(given), cache))

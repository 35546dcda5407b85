"""``accel calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli import flags
from accel.cli.console import emit, shown


@click.command()
@flags.model_argument
@click.option("-o", "out", type=flags.PATH, required=True, help="File for the statistics.")
@flags.data_flags
@click.option("--batch", type=click.IntRange(1), default=1, help="Samples an inference; changes no threshold.")
@click.option("--resume", type=flags.PATH, help="File that keeps partial statistics, to go on after a stop.")
@flags.preprocessing_flags
@flags.parse_flags
@flags.many("--pass", "NAME=on|off", "Switch a preparation pass.", "pass_")
@flags.no_cache_flag
def command(model: str, out: Path, batch: int, resume: Path | None, no_cache: bool, **given: Any) -> None:
    """Measure a network's activations over sample data.

    One measurement serves every target, precision and threshold method.

    \b
    Examples:
      accel calibrate net.onnx --data photos/ -o net.calibration
      accel calibrate net.onnx -d list.txt --mean 127 --std 128 -o net.calibration
    """
    from accel import driver
    from accel.errors import AccelError
    from accel.files import make_parent
    from accel.options import CalibrateOptions

    if not given["data"]:
        raise AccelError("calibration needs samples", code="usage.data", hints=["Give a folder: --data photos/"])
    cache = flags.cache_of(no_cache)
    parsed = driver.parse(model, flags.parse_options(given), cache=cache)
    data = driver.open_dataset(given["data"], parsed, flags.preprocessing(None, given), flags.data_options(given))
    options = CalibrateOptions(samples=given["samples"], batch=batch, resume=resume)
    made = driver.calibrate(parsed, data, options, passes=flags.switches(given["pass_"]), cache=cache)
    make_parent(out)
    made.save(out)
    result = {
        "output": out,
        "samples": made.samples,
        "tensors": len(made.tensors),
        "model_digest": made.model_digest,
        "data_digest": made.data_digest,
        "notes": getattr(data, "notes", ()),
    }
    emit(result, lambda: f"{made.samples} samples, {len(made.tensors)} tensors: {shown(out)}")

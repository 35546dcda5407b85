"""``accel calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown
from accel.cli.grouped import Sections, grouped

app = family()


@app.command(cls=Sections)
@grouped
def calibrate(
    model: flags.Model,
    out: Annotated[Path, typer.Option("-o", metavar="FILE", help="File for the statistics.")],
    data: flags.DataFlags,
    preprocessing: flags.PreprocessingFlags,
    parse: flags.ParseFlags,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Samples an inference; changes no threshold.")
    ] = 1,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", help="File that keeps partial statistics, to go on after a stop."),
    ] = None,
    pass_: Annotated[
        flags.Words, typer.Option("--pass", metavar="NAME=on|off", help="Switch a preparation pass.")
    ] = None,
    no_cache: flags.NoCache = False,
) -> None:
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

    if not data.data:
        raise AccelError("calibration needs samples", code="usage.data", hints=["Give a folder: --data photos/"])
    driver.require_data(data.data)
    cache = flags.cache_of(no_cache)
    parsed = driver.parse(model, parse.options(), cache=cache)
    samples = driver.open_dataset(data.data, parsed, preprocessing.over(None), data.options())
    options = CalibrateOptions(samples=data.samples, batch=batch, resume=resume)
    made = driver.calibrate(parsed, samples, options, passes=flags.switches(pass_), cache=cache)
    make_parent(out)
    made.save(out)
    result = {
        "output": out,
        "samples": made.samples,
        "tensors": len(made.tensors),
        "model_digest": made.model_digest,
        "data_digest": made.data_digest,
        "notes": getattr(samples, "notes", ()),
    }
    emit(result, lambda: f"{made.samples} samples, {len(made.tensors)} tensors: {shown(out)}")

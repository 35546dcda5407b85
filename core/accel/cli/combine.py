"""``accel combine``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown

app = family()


@app.command()
def combine(
    artifacts: flags.Artifacts,
    out: Annotated[Path, typer.Option("-o", metavar="DIR", help="The new artifact's folder.")],
) -> None:
    """Put artifacts of several batch sizes into one.

    \b
    Example:
      accel combine net-b1 net-b4 -o net-b1-b4
    """
    from accel import driver

    made = driver.combine(artifacts, out)
    emit(
        {"path": made.path, "batches": made.manifest.batches, "notes": made.manifest.notes},
        lambda: f"{shown(made.path)}: batches {', '.join(map(str, made.manifest.batches))}",
    )

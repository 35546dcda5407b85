"""``accel combine``."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli import flags
from accel.cli.console import emit, shown


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=flags.PATH, metavar="ARTIFACT ARTIFACT...")
@click.option("-o", "out", type=flags.PATH, required=True, help="The new artifact's folder.")
def command(artifacts: tuple[Path, ...], out: Path) -> None:
    """Put artifacts of several batch sizes into one.

    \b
    Example:
      accel combine net-b1 net-b4 -o net-b1-b4
    """
    from accel import driver

    made = driver.combine(list(artifacts), out)
    emit(
        {"path": made.path, "batches": made.manifest.batches, "notes": made.manifest.notes},
        lambda: f"{shown(made.path)}: batches {', '.join(map(str, made.manifest.batches))}",
    )

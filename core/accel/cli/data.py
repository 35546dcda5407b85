"""``accel data``."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli import flags
from accel.cli.console import emit, shown


@click.group()
def command() -> None:
    """Prepare sample data (pack pictures into an LMDB).

    \b
    Examples:
      accel data pack photos/ calibration.lmdb --size 300,300 --shuffle 1
    """


@command.command()
@click.argument("source", type=flags.PATH)
@click.argument("output", type=flags.PATH)
@click.option("--size", default="", metavar="H,W", help="Stretch to this many pixels; default: as they are.")
@click.option("--encoded", type=click.Choice(["jpg", "png"]), default=None, help="Store files, not raw pixels.")
@click.option("--quality", type=click.IntRange(1, 95), default=95, help="Of --encoded jpg.")
@flags.flag("--gray", "One channel.")
@click.option("--shuffle", type=int, default=None, metavar="SEED", help="Mix the order.")
@click.option("--root", type=flags.PATH, help="Folder of a list's pictures.")
@click.option("--labels", type=flags.PATH, help="Class names, one a line, for folders named by class.")
@flags.flag("--skip-bad", "Leave unreadable pictures out, and name them.")
def pack(
    source: Path,
    output: Path,
    size: str,
    encoded: str | None,
    quality: int,
    gray: bool,
    shuffle: int | None,
    root: Path | None,
    labels: Path | None,
    skip_bad: bool,
) -> None:
    """Write pictures to Caffe's LMDB form.

    SOURCE is a folder (flat, or a folder a class) or a list file of `picture label` lines. Raw pixels are stored
    channels first and BGR, as Caffe's own tool does; without labels the label is 0.
    """
    from accel.builtin.datasets.labels import read_labels
    from accel.builtin.datasets.packing import PackOptions
    from accel.builtin.datasets.packing import pack as write
    from accel.errors import AccelError

    sides = flags.integers(size, "--size")
    if len(sides) not in (0, 2):
        raise AccelError(f"--size {size!r} is not H,W", code="usage.arguments")
    options = PackOptions(
        size=(sides[0], sides[1]) if sides else None,
        encoded=encoded or "",
        quality=quality,
        gray=gray,
        shuffle=shuffle,
        skip_bad=skip_bad,
        root=root,
        labels=read_labels(labels) if labels else (),
    )
    written, skipped = write(source, output, options)
    lines = [f"{written} pictures: {shown(output)}"] + [f"note: skipped {n}: {why}" for n, why in skipped.items()]
    emit({"path": output, "pictures": written, "skipped": skipped}, lambda: "\n".join(lines))

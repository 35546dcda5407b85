"""``accel data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown

app = family()


@app.callback()
def data() -> None:
    """Prepare sample data (pack pictures into an LMDB).

    \b
    Examples:
      accel data pack photos/ calibration.lmdb --size 300,300 --shuffle 1
    """


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder or list file of pictures.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The LMDB to write.")],
    size: Annotated[
        str, typer.Option("--size", metavar="H,W", help="Stretch to this many pixels; default: as they are.")
    ] = "",
    encoded: Annotated[
        Literal["jpg", "png"] | None, typer.Option("--encoded", help="Store files, not raw pixels.")
    ] = None,
    quality: Annotated[int, typer.Option("--quality", min=1, max=95, metavar="Q", help="Of --encoded jpg.")] = 95,
    gray: Annotated[bool, typer.Option("--gray", help="One channel.")] = False,
    shuffle: Annotated[int | None, typer.Option("--shuffle", metavar="SEED", help="Mix the order.")] = None,
    root: Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Folder of a list's pictures.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Class names, one a line, for folders named by class."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable pictures out, and name them.")] = False,
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

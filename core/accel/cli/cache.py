"""``accel cache``."""

from __future__ import annotations

from typing import Annotated

import typer

from accel.cli.app import family
from accel.cli.console import emit, shown, size, table

app = family()


@app.callback()
def cache() -> None:
    """List, measure and empty the result cache.

    \b
    Examples:
      accel cache list
      accel cache clean --keep 1G
    """


@app.command("list")
def list_() -> None:
    """What is kept, least recently used first."""
    from datetime import datetime

    from accel.cache import Cache

    entries = Cache().entries()
    rows = [
        (e.kind, e.label, size(e.bytes), datetime.fromtimestamp(e.used).strftime("%Y-%m-%d %H:%M"), e.key[:12])
        for e in entries
    ]
    emit(
        {"entries": entries},
        lambda: table(("stage", "what", "size", "last used", "key"), rows) if rows else "The cache is empty.",
    )


@app.command("size")
def size_() -> None:
    """How much is kept, and where."""
    from accel.cache import Cache

    cache = Cache()
    entries = cache.entries()
    total = sum(e.bytes for e in entries)
    emit(
        {"path": cache.root, "bytes": total, "entries": len(entries), "limit": cache.limit},
        lambda: f"{size(total)} in {len(entries)} entries of at most {size(cache.limit)}: {shown(cache.root)}",
    )


@app.command()
def clean(
    keep: Annotated[
        str, typer.Option("--keep", metavar="SIZE", help="Keep so much of what was used last: 500M, 2G.")
    ] = "0",
) -> None:
    """Drop entries, least recently used first."""
    from accel.cache import Cache

    freed = Cache().clean(_bytes(keep))
    emit({"freed": freed}, lambda: f"{size(freed)} freed")


def _bytes(text: str) -> int:
    from accel.errors import AccelError

    units = {"": 1, "B": 1, "K": 10**3, "KB": 10**3, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9}
    digits = text.rstrip("BKMGbkmg")
    unit = text[len(digits) :].upper()
    try:
        return int(float(digits) * units[unit])
    except (ValueError, KeyError, OverflowError):
        raise AccelError(f"--keep {text!r} is no size", code="usage.arguments", hints=["500M, 2G"]) from None

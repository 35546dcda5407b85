"""``accel toolchain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from accel.cli import flags
from accel.cli.console import emit, shown, size, table

if TYPE_CHECKING:
    from accel.toolchain.spec import Toolchain


@click.group()
def command() -> None:
    """Install, list and remove vendors' compilers.

    Each lives in an environment of its own, never in this interpreter.

    \b
    Examples:
      accel toolchain list
      accel toolchain install sophon
      accel toolchain install sophon --from wheels/
    """


def declared() -> dict[str, Toolchain]:
    """Every toolchain that an installed plugin declares, by name."""
    from accel.plugins import hooks

    return {t.name: t for group in hooks(every_vendor=True).accel_toolchains() for t in group}


def find(name: str) -> Toolchain:
    """One of them.

    Raises:
        AccelError: ``usage.toolchain`` with the known names.
    """
    from accel.errors import AccelError

    known = declared()
    if name not in known:
        have = ", ".join(known) or "none"
        raise AccelError(f"there is no toolchain {name!r}", code="usage.toolchain", hints=[f"Known: {have}."])
    return known[name]


@command.command("list")
def list_() -> None:
    """What exists and what is installed."""
    from accel.toolchain.find import status

    found = [status(t) for t in declared().values()]
    rows = [(s.toolchain.name, s.toolchain.version, s.toolchain.kind, s.state, s.toolchain.summary) for s in found]
    emit(
        {
            "toolchains": [
                {
                    "name": s.toolchain.name,
                    "version": s.toolchain.version,
                    "kind": s.toolchain.kind,
                    "state": s.state,
                    "detail": s.detail,
                    "download_bytes": s.toolchain.download_bytes,
                }
                for s in found
            ]
        },
        lambda: table(("toolchain", "version", "kind", "state", "what"), rows),
    )


@command.command()
@click.argument("name")
@click.option("--from", "wheels", type=flags.PATH, help="Folder of wheels, for machines without an index.")
@flags.flag("--again", "Make it anew even if it is there.")
def install(name: str, wheels: Path | None, again: bool) -> None:
    """Make a vendor's environment, and prove that it works."""
    from accel.errors import stage
    from accel.progress import message
    from accel.toolchain.install import install as make

    toolchain = find(name)
    if toolchain.download_bytes and wheels is None:
        message(f"{name} {toolchain.version}: about {size(toolchain.download_bytes)} to download")
    with stage("toolchain"):
        made = make(toolchain, wheels, again=again)
    emit(
        {"toolchain": name, "version": made.version, "root": made.root},
        lambda: f"{name} {made.version} is installed: {shown(made.root)}",
    )


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a vendor's environment."""
    from accel.errors import stage
    from accel.toolchain.install import remove as delete

    toolchain = find(name)
    with stage("toolchain"):
        gone = delete(toolchain)
    emit({"toolchain": name, "removed": gone}, lambda: f"{name} is removed" if gone else f"{name} was not installed")


@command.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where a vendor's environment is."""
    from accel.toolchain.find import require

    found = require(find(name))
    emit({"toolchain": name, "root": found.root, "python": found.python}, lambda: str(found.root))

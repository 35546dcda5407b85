"""``accel toolchain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel.cli.app import family
from accel.cli.console import emit, shown, size, table

if TYPE_CHECKING:
    from accel.toolchain.spec import Toolchain


app = family()


@app.callback()
def toolchain() -> None:
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


@app.command("list")
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


def known_names(incomplete: str) -> list[str]:
    """Toolchains for the shell to complete."""
    return [name for name in declared() if name.startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=known_names, help="As `accel toolchain list` has it.")
]


@app.command()
def install(
    name: Name,
    wheels: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Folder of wheels, for machines without an index.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Make it anew even if it is there.")] = False,
) -> None:
    """Make a vendor's environment, and prove that it works."""
    from accel.errors import stage
    from accel.progress import message
    from accel.toolchain.install import install as make

    found = find(name)
    if found.download_bytes and wheels is None:
        message(f"{name} {found.version}: about {size(found.download_bytes)} to download")
    with stage("toolchain"):
        made = make(found, wheels, again=again)
    emit(
        {"toolchain": name, "version": made.version, "root": made.root},
        lambda: f"{name} {made.version} is installed: {shown(made.root)}",
    )


@app.command()
def remove(name: Name) -> None:
    """Delete a vendor's environment."""
    from accel.errors import stage
    from accel.toolchain.install import remove as delete

    found = find(name)
    with stage("toolchain"):
        gone = delete(found)
    emit({"toolchain": name, "removed": gone}, lambda: f"{name} is removed" if gone else f"{name} was not installed")


@app.command()
def path(name: Name) -> None:
    """Print where a vendor's environment is."""
    from accel.toolchain.find import require

    found = require(find(name))
    emit({"toolchain": name, "root": found.root, "python": found.python}, lambda: str(found.root))

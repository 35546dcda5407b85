"""Where toolchains live, and which of them are there and whole."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from accel.errors import AccelError
from accel.toolchain.spec import Environment, Toolchain

STAMP = "accel-toolchain.json"

State = Literal["ready", "missing", "outdated", "broken"]


@dataclass(frozen=True)
class Stamp:
    """What an installed environment says about itself; written last, so its presence means "whole".

    Attributes:
        toolchain: Name.
        version: Version of the compiler.
        digest: :func:`declaration_digest` of the declaration that made it.
        probe: The line the probe returned.
        installed: ISO 8601 time (UTC).
        bytes: Size on disk.
    """

    toolchain: str
    version: str
    digest: str
    probe: str
    installed: str
    bytes: int = 0


@dataclass(frozen=True)
class Status:
    """One line of ``accel doctor``."""

    toolchain: Toolchain
    state: State
    detail: str
    environment: Environment | None = None
    stamp: Stamp | None = None


def toolchains_dir() -> Path:
    """Folder of all managed environments (``XDG_DATA_HOME`` is honoured)."""
    return platformdirs.user_data_path("accel") / "toolchains"


def environment_dir(toolchain: Toolchain) -> Path:
    """Folder of this toolchain's managed environment, whether it exists or not."""
    return toolchains_dir() / f"{toolchain.name}-{toolchain.version}"


def declaration_digest(toolchain: Toolchain) -> str:
    """SHA-256 (hex) of everything in a declaration that decides what gets installed."""
    parts = [toolchain.name, toolchain.version, toolchain.python, toolchain.revision, sorted(toolchain.requirements)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def environment(toolchain: Toolchain, root: Path) -> Environment:
    """The environment that a managed toolchain has (or will have) in ``root``."""
    site = root / "lib" / f"python{toolchain.python}" / "site-packages"
    variables = {
        name: value.replace("{root}", str(root)).replace("{site}", str(site))
        for name, value in toolchain.variables.items()
    }
    return Environment(
        toolchain=toolchain.name,
        version=toolchain.version,
        root=root,
        python=root / "bin" / "python",
        variables=variables,
        bin=tuple(root / folder for folder in toolchain.bin),
    )


def read_stamp(root: Path) -> Stamp | None:
    """The stamp in ``root``; None when there is none that can be read."""
    try:
        return Stamp(**json.loads((root / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(root: Path, stamp: Stamp) -> None:
    """Write the stamp, atomically."""
    part = root / f"{STAMP}.part"
    part.write_text(json.dumps(asdict(stamp), indent=2), encoding="utf-8")
    part.replace(root / STAMP)


def status(toolchain: Toolchain) -> Status:
    """Whether the toolchain can be used, and if not, why. Reads a file or two, starts nothing."""
    if toolchain.kind == "system":
        located = toolchain.locate() if toolchain.locate else None
        if located is None:
            return Status(toolchain, "missing", "not found on this machine")
        return Status(toolchain, "ready", f"version {located.version or 'unknown'} in {located.root}", located)
    root = environment_dir(toolchain)
    if not root.exists():
        return Status(toolchain, "missing", f"not installed (it would be in {root})")
    found = environment(toolchain, root)
    stamp = read_stamp(root)
    if stamp is None:
        return Status(toolchain, "broken", f"{root / STAMP} is missing or unreadable", found)
    if not os.access(found.python, os.X_OK):
        return Status(toolchain, "broken", f"its Python {found.python} is gone", found, stamp)
    if stamp.digest != declaration_digest(toolchain):
        return Status(toolchain, "outdated", "made from another list of packages than this version wants", found, stamp)
    return Status(toolchain, "ready", stamp.probe or f"installed in {root}", found, stamp)


def find(toolchain: Toolchain) -> Environment | None:
    """The toolchain's environment, or None when it is not installed (or not usable)."""
    found = status(toolchain)
    return found.environment if found.state == "ready" else None


_REFERENCE = "Or build with --backend reference, which needs no vendor software."


def require(toolchain: Toolchain, otherwise: str = _REFERENCE) -> Environment:
    """The toolchain's environment.

    Args:
        toolchain: Which.
        otherwise: What to do without it; the last hint.

    Raises:
        AccelError: ``toolchain.missing``, ``toolchain.outdated`` or ``toolchain.broken``, with the command that
            mends it.
    """
    found = status(toolchain)
    if found.state == "ready" and found.environment is not None:
        return found.environment
    if toolchain.kind == "system":
        hints = [f"Install {toolchain.summary} on this machine, then run: accel doctor"]
    else:
        hints = [f"Run: accel toolchain install {toolchain.name}"]
    hints.append(otherwise)
    raise AccelError(
        f"the toolchain {toolchain.name!r} is {found.state}",
        code=f"toolchain.{found.state}",
        cause=found.detail,
        hints=hints,
    )

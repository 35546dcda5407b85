"""Making a managed environment: uv, pinned packages, mended, proven, and only then in its place."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from accel import progress
from accel.errors import AccelError
from accel.toolchain.find import (
    Stamp,
    declaration_digest,
    environment,
    environment_dir,
    find,
    read_stamp,
    require,
    toolchains_dir,
    write_stamp,
)
from accel.toolchain.packages import install_packages
from accel.toolchain.spec import Environment, Toolchain
from accel.toolchain.uv_tool import find_python, make_environment


def install(toolchain: Toolchain, wheels: Path | None = None, *, again: bool = False) -> Environment:
    """Install a toolchain, or return it at once if it is there.

    The environment is built beside its place and renamed: an interrupted install leaves nothing that could be
    taken for a whole one, and the next try goes on with what uv's cache holds. Two installs wait for each other.

    Args:
        toolchain: What to install.
        wheels: Folder of wheel files for a machine that reaches no package index; nothing else is asked then.
        again: Make it anew even when it is there.

    Raises:
        AccelError: ``toolchain.missing`` (system SDK not found), ``toolchain.disk``, ``toolchain.python`` (no such
            Python), ``toolchain.download``, ``toolchain.broken`` (it does not work on this machine).
    """
    if toolchain.kind == "system":
        return require(toolchain)
    with _locked(toolchain):
        there = None if again else find(toolchain)
        if there is not None:
            return there
        root = environment_dir(toolchain)
        _sweep(root)
        _check_space(toolchain, root.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=root.parent))
        log = toolchains_dir() / f"{root.name}.log"
        log.unlink(missing_ok=True)
        try:
            _build(toolchain, part, wheels, log)
            _replace(part, root)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk(toolchain, root.parent) from error
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return require(toolchain)


def remove(toolchain: Toolchain) -> bool:
    """Delete a managed environment; False when there was none.

    Raises:
        AccelError: ``usage.toolchain`` for a system SDK, which is not ours to delete.
    """
    if toolchain.kind == "system":
        raise AccelError(f"{toolchain.name!r} is an SDK of this machine, not ours to remove", code="usage.toolchain")
    root = environment_dir(toolchain)
    with _locked(toolchain):
        _sweep(root)
        if not root.exists():
            return False
        # Renamed first, so that a half-deleted one is never found.
        grave = root.with_name(f".{root.name}.removed.part")
        root.replace(grave)
        shutil.rmtree(grave, ignore_errors=True)
        return True


def installed() -> list[tuple[Path, Stamp]]:
    """Every managed environment on this machine, of whatever plugin and version: its folder and its stamp."""
    folder = toolchains_dir()
    if not folder.is_dir():
        return []
    found = []
    for root in sorted(folder.iterdir()):
        stamp = None if root.name.startswith(".") else read_stamp(root)
        if stamp is not None:
            found.append((root, stamp))
    return found


def _build(toolchain: Toolchain, part: Path, wheels: Path | None, log: Path) -> None:
    python = find_python(toolchain.python, log)
    # Relocatable: the environment is renamed once it is whole.
    make_environment(python, part, log)
    env = environment(toolchain, part)
    install_packages(toolchain, env, wheels, log)
    if toolchain.post_install:
        toolchain.post_install(env)
    line = ""
    if toolchain.probe:
        with progress.step(f"Proving that {toolchain.name} works"):
            line = toolchain.probe(env)
    stamp = Stamp(
        toolchain=toolchain.name,
        version=toolchain.version,
        digest=declaration_digest(toolchain),
        probe=line,
        installed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bytes=_size(part),
    )
    write_stamp(part, stamp)


def _replace(part: Path, root: Path) -> None:
    if root.exists():  # outdated or broken
        grave = root.with_name(f".{root.name}.old.part")
        shutil.rmtree(grave, ignore_errors=True)
        root.replace(grave)
        part.replace(root)
        shutil.rmtree(grave, ignore_errors=True)
    else:
        part.replace(root)


def _sweep(root: Path) -> None:
    # Under the lock nobody builds: what carries these names was left by a killed install.
    for stale in root.parent.glob(f".{root.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)


@contextlib.contextmanager
def _locked(toolchain: Toolchain) -> Iterator[None]:
    import fcntl

    folder = toolchains_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{toolchain.name}.lock").open("w")
    except OSError as error:
        raise AccelError(
            f"cannot write to {folder}",
            code="toolchain.disk",
            cause=str(error),
            hints=["Set XDG_DATA_HOME to a folder that you may write to."],
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.message(f"Another process is working on the toolchain {toolchain.name}; waiting for it.")
            started = time.monotonic()
            fcntl.flock(lock, fcntl.LOCK_EX)
            progress.message(f"Waited {time.monotonic() - started:.0f} s.")
        yield


def _check_space(toolchain: Toolchain, folder: Path) -> None:
    if shutil.disk_usage(folder).free < toolchain.installed_bytes:
        raise _disk(toolchain, folder)


def _disk(toolchain: Toolchain, folder: Path) -> AccelError:
    free = shutil.disk_usage(folder).free
    return AccelError(
        f"not enough room for the toolchain {toolchain.name}",
        code="toolchain.disk",
        cause=f"{free / 1e9:.1f} GB free at {folder}, about {toolchain.installed_bytes / 1e9:.1f} GB needed",
        hints=["Free some space, or set XDG_DATA_HOME to a folder on a larger disk."],
    )


def _size(root: Path) -> int:
    return sum(p.lstat().st_size for p in root.rglob("*") if not p.is_dir())

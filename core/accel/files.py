"""Files that appear whole or not at all: temporary siblings, renames, digests.

A temporary directory or file stands beside its destination (same file system), is named
``.NAME.accel-XXXXXXXX`` and is locked by the process that writes it. What a killed process left
is found by its free lock and removed by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from accel.errors import AccelError

_LOCK = ".lock"
_live: set[Path] = set()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def safe_join(root: Path, relative: str) -> Path:
    """``root / relative``, provided it stays inside ``root`` (symbolic links followed).

    Raises:
        AccelError: ``artifact.path`` for an absolute path, ``..``, a drive, or a link that leads outside.
    """
    parts = relative.replace("\\", "/").split("/")
    plain = relative and "\0" not in relative and not relative.startswith(("/", "\\")) and ":" not in parts[0]
    if not plain or any(p in ("", ".", "..") for p in parts):
        raise AccelError(f"{root} names a file outside itself: {relative!r}", code="artifact.path")
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise AccelError(f"{root} names a file outside itself: {relative!r}", code="artifact.path")
    return path


@contextlib.contextmanager
def workspace_beside(destination: Path) -> Iterator[Path]:
    """An empty directory beside ``destination``, removed at the end of the block.

    Leftovers of killed runs for the same destination are removed first.
    """
    make_parent(destination)
    _sweep(destination)
    path = _sibling(destination)
    path.mkdir()
    _live.add(path)
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inner = path / "work"
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        _live.discard(path)


@contextlib.contextmanager
def atomic_file(destination: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed to ``destination`` when the block ends well."""
    with workspace_beside(destination) as work:
        temporary = work / destination.name
        yield temporary
        _sync(temporary)
        temporary.replace(destination)


def publish_directory(source: Path, destination: Path) -> None:
    """Put the finished directory ``source`` in the place of ``destination`` in one rename.

    Both must be on one file system. A directory that is there already is swapped out atomically
    where the kernel can, and deleted afterwards.
    """
    if not destination.exists():
        with contextlib.suppress(FileExistsError):
            _rename(source, destination)
            return
    if not _exchange(source, destination):
        aside = source.with_name(source.name + ".old")
        destination.rename(aside)
        source.rename(destination)
        shutil.rmtree(aside, ignore_errors=True)
        return
    shutil.rmtree(source, ignore_errors=True)


def remove_live_workspaces() -> None:
    """Delete what this process is still writing: for an exit that cannot unwind (Ctrl-C with threads)."""
    for path in list(_live):
        shutil.rmtree(path, ignore_errors=True)
        # A thread that is still at work may have made a file meanwhile.
        shutil.rmtree(path, ignore_errors=True)


def make_parent(path: Path) -> None:
    """Make the folder that ``path`` will stand in.

    Raises:
        AccelError: ``usage.output`` when a file is in the way.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise AccelError(
            f"cannot make the folder {path.parent}",
            code="usage.output",
            cause="a file of that name is in the way",
            hints=["Choose another place with -o."],
        ) from error


def _sibling(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.accel-{secrets.token_hex(4)}")


def _sweep(destination: Path) -> None:
    for left in destination.parent.glob(f".{_escape(destination.name)}.accel-????????"):
        try:
            lock = os.open(left / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # just being made, or not ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody is writing it
        else:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _rename(source: Path, destination: Path) -> None:
    try:
        source.rename(destination)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(*error.args) from error
        raise


def _exchange(a: Path, b: Path) -> bool:
    """Swap two paths atomically (Linux renameat2); False where that is not to be had."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(call(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), exchange) == 0)


def _sync(path: Path) -> None:
    # Without it a power cut after the rename can leave an empty file under the final name.
    with path.open("rb") as file:
        os.fsync(file.fileno())

"""Results by content: a key names everything that went in, so a hit is as good as the work itself.

Layout under the root: ``KIND/KEY/`` holds the files and ``entry.json`` with their digests. An entry
appears by rename, is verified when it is used (a damaged one counts as absent and goes), and is
dropped least recently used first when the cache outgrows its limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from accel.files import sha256_file
from accel.progress import message

_ENTRY = "entry.json"
DEFAULT_LIMIT = 10 << 30
"""Bytes kept unless ``ACCEL_CACHE_LIMIT`` says otherwise."""


@dataclass(frozen=True)
class Entry:
    """One cached result."""

    kind: str
    key: str
    path: Path
    bytes: int
    used: float
    """Time of last use, seconds since the epoch."""
    label: str


class Cache:
    """A folder of results. Every method is safe beside other processes."""

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        self.root = root or default_root()
        self.limit = limit if limit is not None else default_limit()

    def get(self, kind: str, key: str) -> Path | None:
        """The folder of a result, verified, or None. It stands at least until the next clean-up."""
        import msgspec

        path = self.root / kind / key
        try:
            entry = msgspec.json.decode((path / _ENTRY).read_bytes())
            for name, digest in entry["files"].items():
                if sha256_file(path / name) != digest:
                    raise ValueError(name)
            os.utime(path)
        except FileNotFoundError:
            if not path.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        else:
            return path
        message(f"cache: a damaged entry was dropped ({kind} {key[:12]})")
        self._drop(path)
        return None

    def put(self, kind: str, key: str, source: Path, label: str = "") -> None:
        """Keep a copy of the folder ``source``. A cache that cannot be written costs a message only."""
        import msgspec

        temporary = self.root / f".new-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, temporary, symlinks=False)
            files = {p.relative_to(temporary).as_posix(): sha256_file(p) for p in temporary.rglob("*") if p.is_file()}
            size = sum((temporary / name).stat().st_size for name in files)
            (temporary / _ENTRY).write_bytes(msgspec.json.encode({"label": label, "bytes": size, "files": files}))
            (self.root / kind).mkdir(exist_ok=True)
            if (self.root / kind / key).exists():
                self._drop(self.root / kind / key)
            with contextlib.suppress(FileExistsError):
                temporary.rename(self.root / kind / key)
            self.clean(self.limit)
        except OSError as error:
            message(f"cache: not kept: {error.strerror or error} ({self.root})")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold ``key``: a second process that wants the same result waits and then finds it."""
        try:
            folder = self.root / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield  # an unwritable cache is no reason not to build
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message("waiting for another process that builds the same")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def entries(self) -> list[Entry]:
        """Everything kept, least recently used first."""
        import msgspec

        found = []
        for file in self.root.glob(f"*/*/{_ENTRY}"):
            with contextlib.suppress(OSError, msgspec.DecodeError, KeyError, TypeError):
                entry = msgspec.json.decode(file.read_bytes())
                kind, key = file.parts[-3:-1]
                found.append(Entry(kind, key, file.parent, entry["bytes"], file.parent.stat().st_mtime, entry["label"]))
        return sorted(found, key=lambda e: e.used)

    def clean(self, limit: int = 0) -> int:
        """Drop the least recently used entries until at most ``limit`` bytes are left; returns bytes freed."""
        entries = self.entries()
        size, freed = sum(e.bytes for e in entries), 0
        for entry in entries:
            if size - freed <= limit:
                break
            self._drop(entry.path)
            freed += entry.bytes
        if limit == 0:
            shutil.rmtree(self.root / "locks", ignore_errors=True)
        self._sweep()
        return freed

    def _drop(self, path: Path) -> None:
        # Renamed first: nobody sees a half-deleted entry.
        aside = self.root / f".old-{os.getpid()}-{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        for left in [*self.root.glob(".new-*"), *self.root.glob(".old-*")]:
            pid = left.name.split("-")[1]
            if not pid.isdigit() or (int(pid) != os.getpid() and not Path("/proc", pid).exists()):
                shutil.rmtree(left, ignore_errors=True)


class NoCache(Cache):
    """``--no-cache``: finds nothing and keeps nothing."""

    def get(self, kind: str, key: str) -> Path | None:
        return None

    def put(self, kind: str, key: str, source: Path, label: str = "") -> None:
        return None

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        yield


def default_root() -> Path:
    """``ACCEL_CACHE_DIR``, or the user's cache folder."""
    import platformdirs

    given = os.environ.get("ACCEL_CACHE_DIR")
    return Path(given) if given else Path(platformdirs.user_cache_dir("accel"))


def default_limit() -> int:
    """``ACCEL_CACHE_LIMIT`` in bytes, or 10 GiB."""
    given = os.environ.get("ACCEL_CACHE_LIMIT", "")
    return int(given) if given.isdigit() else DEFAULT_LIMIT


def key_of(parts: Any) -> str:
    """SHA-256 (hex) of nested data classes, mappings and plain values, independent of their order."""
    import msgspec

    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic", enc_hook=_plain)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "digest"):
        return value.digest
    raise NotImplementedError(f"a {type(value).__name__} has no place in a cache key")


@lru_cache
def code_state(package: str) -> str:
    """Digest of names, sizes and times of a package's Python files: an edited checkout is another version."""
    from importlib.util import find_spec

    spec = find_spec(package)
    parts = []
    for place in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(place).rglob("*.py")):
            stat = file.stat()
            parts.append((str(file), stat.st_size, stat.st_mtime_ns))
    return key_of(parts)

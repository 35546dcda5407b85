"""Artifact directories: written by builders, verified whenever they are read.

The manifest carries sizes and SHA-256 of the payload and a digest of itself, so that an artifact
edited after the build is refused instead of giving wrong numbers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accel.artifact import SCHEMA, Artifact, FileEntry, Manifest
from accel.errors import AccelError
from accel.files import safe_join, sha256_file

MANIFEST = "manifest.json"
_DIGEST = "digest"
_MAX_MANIFEST = 256 << 20


def write_artifact(directory: Path, manifest: Manifest, files: Mapping[str, Path | Sequence[Path]]) -> Artifact:
    """Make ``directory`` an artifact: payload files in, entries with size and digest, manifest last.

    Args:
        directory: Made if absent; usually ``workspace / "artifact"``.
        manifest: ``schema`` and ``files`` are filled in here.
        files: Paths by role (``model`` first: the file to ship). A file that is already inside
            ``directory`` stays where it is; one from elsewhere is copied in under its own name.

    Raises:
        AccelError: ``artifact.incomplete`` when a file is absent, ``artifact.path`` on a name clash.
    """
    directory.mkdir(parents=True, exist_ok=True)
    entries: list[FileEntry] = []
    taken: set[str] = {MANIFEST}
    for role, given in files.items():
        for path in [given] if isinstance(given, Path) else given:
            if not path.is_file():
                raise AccelError(f"the build left no {role} file {path.name}", code="artifact.incomplete")
            if path.resolve().is_relative_to(directory.resolve()):
                inside = path.resolve().relative_to(directory.resolve()).as_posix()
            else:
                inside = path.name
                if inside not in taken:
                    shutil.copyfile(path, directory / inside)
            if inside in taken:
                raise AccelError(f"two files of the artifact are called {inside!r}", code="artifact.path")
            taken.add(inside)
            kept = directory / inside
            entries.append(FileEntry(inside, kept.stat().st_size, sha256_file(kept), role))
    manifest = replace(manifest, schema=SCHEMA, files=tuple(entries))
    write_manifest(directory, manifest)
    return Artifact(directory, manifest)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` alone; the payload is as the manifest says."""
    import msgspec

    try:
        plain = msgspec.to_builtins(manifest)
        text = msgspec.json.format(msgspec.json.encode({**plain, _DIGEST: _digest(plain)}), indent=2)
    except (TypeError, ValueError) as error:
        raise AccelError(
            "the manifest holds a value that JSON has no form for", code="artifact.manifest", cause=str(error)
        ) from error
    (directory / MANIFEST).write_bytes(text + b"\n")


def read_artifact(path: str | Path, *, verify: bool = True) -> Artifact:
    """Open an artifact directory (or its manifest) and check it.

    Args:
        path: The directory, or the ``manifest.json`` inside it.
        verify: Also check every payload file's size and SHA-256.

    Raises:
        AccelError: ``usage.artifact`` when there is no artifact; ``artifact.unreadable`` for a manifest
            that does not decode; ``artifact.newer`` for a schema this version does not know;
            ``artifact.path`` for paths that leave the directory; ``artifact.incomplete`` for missing
            files; ``artifact.changed`` when manifest or payload were edited after the build.
    """
    directory = Path(path)
    if directory.name == MANIFEST and directory.is_file():
        directory = directory.parent
    if not (directory / MANIFEST).is_file():
        raise AccelError(
            f"{directory} is no artifact",
            code="usage.artifact",
            cause=f"it holds no {MANIFEST}" if directory.is_dir() else "there is no such folder",
            hints=["Give the folder that `accel build` or `accel compile` left."],
        )
    manifest = _decode(directory)
    for entry in manifest.files:
        file = safe_join(directory, entry.path)
        if not file.is_file():
            raise AccelError(
                f"{directory} lacks its file {entry.path}", code="artifact.incomplete", hints=["Build it again."]
            )
        if verify and (file.stat().st_size != entry.bytes or sha256_file(file) != entry.sha256):
            raise _changed(directory, f"{entry.path} is not the file that was built")
    return Artifact(directory, manifest)


def _decode(directory: Path) -> Manifest:
    import msgspec

    file = directory / MANIFEST
    if file.stat().st_size > _MAX_MANIFEST:
        raise _unreadable(directory, "it is larger than any manifest")
    try:
        raw = msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(directory, str(error)) from error
    if not isinstance(raw, dict):
        raise _unreadable(directory, "it holds no object")
    schema = raw.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise AccelError(
            f"{directory} was made by a newer accel",
            code="artifact.newer",
            cause=f"its schema is {schema}; this version reads up to {SCHEMA}",
            hints=["Upgrade: pip install --upgrade accel-core", "Or build the artifact again with this version."],
        )
    digest = raw.pop(_DIGEST, None)
    try:
        manifest = msgspec.convert(raw, Manifest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _unreadable(directory, str(error)) from error
    if digest != _digest(raw):
        raise _changed(directory, f"{MANIFEST} was edited")
    return manifest


def _digest(plain: Any) -> str:
    import msgspec

    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()


def _unreadable(directory: Path, why: str) -> AccelError:
    return AccelError(
        f"the manifest of {directory} cannot be read",
        code="artifact.unreadable",
        cause=why,
        hints=["Build it again."],
    )


def _changed(directory: Path, why: str) -> AccelError:
    return AccelError(
        f"{directory} was changed after the build", code="artifact.changed", cause=why, hints=["Build it again."]
    )

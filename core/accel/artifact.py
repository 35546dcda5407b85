"""An artifact: what a build leaves. A directory with ``manifest.json`` and the payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accel.model import TensorSpec
from accel.preprocessing import Preprocessing

SCHEMA = 1
"""Version of the manifest's form. A reader refuses a newer one."""


@dataclass(frozen=True)
class FileEntry:
    """A payload file: path relative to the artifact (no ``..``, not absolute), size in bytes, SHA-256."""

    path: str
    bytes: int
    sha256: str
    role: str
    """What it is for: ``model`` (the file to ship), ``reference``, ``report``, ``log``, ``data``."""


@dataclass(frozen=True)
class NodeNumerics:
    """What one node of the graph became."""

    node: str
    op_type: str
    precision: str
    place: str = ""
    """Where it runs: the chip's name, or ``host``."""
    note: str = ""


@dataclass(frozen=True)
class Manifest:
    """Everything somebody needs to know about an artifact without running it."""

    schema: int
    name: str
    target: str
    vendor: str
    backend: str
    precision: str
    payload: str
    """Form of the payload: ``reference``, ``bmodel``, ``hbm``, ``magicmind``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batches: tuple[int, ...]
    files: tuple[FileEntry, ...]
    model_digest: str
    calibration_digest: str = ""
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    nodes: tuple[NodeNumerics, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """``accel-core``, the plugin's distribution, the toolchain, by name."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The build options that made it, as strings."""
    notes: tuple[str, ...] = ()
    """What was asked and not honoured, what fell back, what differs between runs: a line each."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Backend-specific, JSON values only (quantisation scales, the host's decode step ...)."""


@dataclass(frozen=True)
class Artifact:
    """A manifest and the directory it describes."""

    path: Path
    manifest: Manifest

    def file(self, role: str) -> Path:
        """The first payload file with this role.

        Raises:
            AccelError: ``artifact.incomplete`` when there is none.
        """
        from accel.errors import AccelError

        for entry in self.manifest.files:
            if entry.role == role:
                return self.path / entry.path
        raise AccelError(f"{self.path} holds no {role!r} file", code="artifact.incomplete", hints=["Build it again."])

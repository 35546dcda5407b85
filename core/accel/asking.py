"""What every stage needs: the target by name, an artifact by path, the plugins' known messages."""

from __future__ import annotations

from pathlib import Path

from accel.artifact import Artifact
from accel.errors import ErrorHint, stage
from accel.plugins import hooks, registry
from accel.target import Target


def resolve(target: str | Target) -> Target:
    """The target called so, with its vendor's plugin loaded.

    Raises:
        AccelError: ``usage.target`` with near names; ``failed.plugin``.
    """
    if isinstance(target, str):
        return registry().target(target)
    registry().load_vendor(target.vendor)
    return target


def open_artifact(path: str | Path) -> Artifact:
    """Read and verify an artifact directory; see :func:`accel.artifacts.read_artifact`."""
    from accel.artifacts import read_artifact

    with stage("open"):
        return read_artifact(path)


def load_vendor_of(artifact: Artifact) -> None:
    # The reference's payload needs nobody; a vendor's needs its package.
    if artifact.manifest.backend == "vendor":
        registry().load_vendor(artifact.manifest.vendor)


def known_hints() -> list[ErrorHint]:
    return [hint for group in hooks().accel_error_hints() for hint in group]

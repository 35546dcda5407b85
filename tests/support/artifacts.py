"""Artifacts as a vendor's build leaves them, with files of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accel.artifact import SCHEMA, Artifact, Manifest
from accel.artifacts import write_artifact
from accel.model import TensorSpec


def hbm_artifact(
    folder: Path,
    files: Mapping[str, Path | list[Path]],
    batches: tuple[int, ...] = (1,),
    details: Mapping[str, object] | None = None,
) -> Artifact:
    """A build of a network ``net`` for j5, its files by role."""
    spec = TensorSpec("x", "float32", (1, 3, 8, 8))
    manifest = Manifest(
        schema=SCHEMA,
        name="net",
        target="j5",
        vendor="horizon",
        backend="vendor",
        precision="int8",
        payload="hbm",
        inputs=(spec,),
        outputs=(spec,),
        batches=batches,
        files=(),
        model_digest="0" * 64,
        details=details or {},
    )
    return write_artifact(folder, manifest, files)

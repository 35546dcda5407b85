"""accel_combine: several batch sizes of one network in one bmodel."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accel.artifact import Artifact
from accel.artifacts import write_artifact
from accel.errors import AccelError
from accel.toolchain.find import require

from accel_sophon.bmodel import combine_batches
from accel_sophon.commands import Bench
from accel_sophon.toolchain import SOPHON


def combine(artifacts: Sequence[Artifact], workspace: Path) -> Artifact:
    """Put the artifacts' networks into one file; the first one's batch stays the default.

    Raises:
        AccelError: ``usage.combine`` for artifacts of different networks or precisions, or of one batch size;
            ``failed.combine``.
    """
    first = artifacts[0].manifest
    for one in artifacts[1:]:
        other = one.manifest
        if (other.model_digest, other.precision, other.target) != (first.model_digest, first.precision, first.target):
            raise AccelError(
                f"{one.path.name} is not of the same network and precision as {artifacts[0].path.name}",
                code="usage.combine",
            )
    if any(len(a.manifest.batches) != 1 for a in artifacts):
        raise AccelError("an artifact of several batches cannot be combined again", code="usage.combine")
    batches = tuple(a.manifest.batches[0] for a in artifacts)
    if len(set(batches)) != len(batches):
        raise AccelError(f"two artifacts have the same batch: {batches}", code="usage.combine")
    log = workspace / "combine.log"
    directory = workspace / "artifact"
    directory.mkdir()
    bmodel = directory / artifacts[0].file("model").name
    simulators: dict[str, Any] = {}
    files: dict[str, list[Path]] = {"model": [bmodel], "host": [], "data": [], "report": [], "log": []}
    parts = []
    for one in artifacts:
        parts.append((one.manifest.batches[0], one.file("model")))
        details: Any = one.manifest.details
        simulators.update(details["simulators"])
        for entry in one.manifest.files:
            if entry.role in ("host", "data", "report"):
                place = directory / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(one.path / entry.path, place)
                files[entry.role].append(place)
    arch = str(first.details["arch"])
    combine_batches(Bench(require(SOPHON), workspace, log), parts, bmodel, chip=arch)
    shutil.copyfile(log, directory / "combine.log")
    files["log"].append(directory / "combine.log")
    notes = tuple(dict.fromkeys(n for a in artifacts for n in a.manifest.notes))
    manifest = replace(
        first,
        batches=batches,
        files=(),
        notes=notes,
        details={**first.details, "simulators": simulators},
    )
    return write_artifact(directory, manifest, {role: paths for role, paths in files.items() if paths})

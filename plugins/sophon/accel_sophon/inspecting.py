"""accel_inspect: what is in a ``.bmodel``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from accel.report import Metric, Report, Table
from accel.toolchain.find import require

from accel_sophon.bmodel import Info, info
from accel_sophon.commands import Bench
from accel_sophon.toolchain import SOPHON


def inspect(path: Path) -> Report:
    """Stages, shapes, scales and memory of a bmodel, or of the one in an artifact.

    Raises:
        AccelError: ``failed.bmodel``; ``toolchain.missing``: the vendor's tool reads the file.
    """
    env = require(SOPHON)
    with tempfile.TemporaryDirectory(prefix="accel-sophon-") as folder:
        found = info(Bench(env, Path(folder), Path(folder) / "log.txt"), path)
    return report(path, found)


def report(path: Path, found: Info) -> Report:
    """``found`` as a report."""
    rows = []
    for net in found.nets:
        name = net.name if len(found.nets) > 1 else ""  # one network has the file's name
        for stage in net.stages:
            for kind, tensors in (("input", stage.inputs), ("output", stage.outputs)):
                rows += [
                    (name, net.kind, stage.number, stage.cores, kind, t.name, str(list(t.shape)), t.dtype, t.scale)
                    for t in tensors
                ]
    columns = ("network", "kind", "stage", "cores", "", "tensor", "shape", "dtype", "scale")
    labels = {"device": "device_memory", "host": "host_memory"}
    metrics = tuple(
        Metric(labels.get(name, f"{name}_memory"), size, "B", "simulated", "model_tool --info")
        for name, size in found.memory.items()
    )
    return Report(
        title=f"{path.name}: {found.chip}, {found.version}",
        metrics=(*metrics, Metric("file", path.stat().st_size, "B", "measured")),
        tables=(Table("networks and stages", columns, tuple(rows)),),
        notes=(f"compiled {found.created}",),
        commands=(f"accel inspect {path}",),
        subject={"chip": found.chip, "file": str(path)},
    )


def bmodel_of(path: Path) -> Path | None:
    """The bmodel that ``path`` is or (an artifact's directory) holds; None for anything else."""
    if path.suffix == ".bmodel" and path.is_file():
        return path
    if path.is_dir() and (path / "manifest.json").is_file():
        from accel.artifacts import read_artifact

        artifact = read_artifact(path)
        if artifact.manifest.payload == "bmodel":
            return artifact.file("model")
    return None

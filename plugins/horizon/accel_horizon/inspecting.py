"""``accel_inspect``: ``.hbm`` and ``.bin`` files, and what the estimator and the board wrote."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel.errors import AccelError
from accel.report import Metric, Report, Table

from accel_horizon.failures import failure
from accel_horizon.profile import NAMES, read_profile
from accel_horizon.toolchain import HORIZON, VENDOR_SIDE


def inspect(path: Path) -> Report | None:
    """See :meth:`accel.hookspecs.AccelSpec.accel_inspect`."""
    if path.is_dir():
        return None
    if path.suffix == ".hbm":
        return _hbm(path)
    if path.suffix == ".bin" and _is_bin(path):
        return _bin(path)
    if path.name in NAMES:
        return read_profile(path)
    if path.suffix == ".json":
        return _estimate(path)
    return None


def _is_bin(path: Path) -> bool:
    # Horizon's runtime model is a protobuf without a magic number; its metadata keys are plain text near the end.
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - (1 << 20)))
        return b"HORIZON_NN_VERSION" in file.read()


def _hbm(path: Path) -> Report:
    models = _disassembled(path)
    rows = [
        (
            m["model name"],
            m["march"],
            m["core num"],
            m["op num"],
            m["param byte size"],
            m["total static memory size without debug"],
            m["total dynamic memory size"],
        )
        for m in models
    ]
    tables = [
        Table("models", ("model", "march", "cores", "operations", "parameters B", "static B", "dynamic B"), tuple(rows))
    ]
    tables += [_features(m) for m in models]
    first = models[0] if models else {}
    metrics = (
        Metric("models", len(models), "", "measured"),
        Metric("file_size", path.stat().st_size, "B", "measured"),
        Metric("static_memory", sum(r[5] for r in rows), "B", "measured", "hbdk-disas"),
        Metric("dynamic_memory", max((r[6] for r in rows), default=0), "B", "measured", "hbdk-disas"),
    )
    return Report(
        f"{path.name}: program of Horizon's BPU",
        metrics=metrics,
        tables=tuple(tables),
        subject={
            "march": str(first.get("march", "")),
            "compiler": str(first.get("hbdk-cc version", "")).split(";")[0],
            "options": str(first.get("compiling options", "")),
        },
        commands=(f"accel inspect {path}",),
    )


def _features(model: Mapping[str, Any]) -> Table:
    rows = []
    for kind in ("input", "output"):
        for f in model.get(f"{kind} features", []):
            shape = "x".join(str(d) for d in f["valid dim"])
            aligned = "x".join(str(d) for d in f["aligned dim"])
            layout, source = f["layout type name"], f.get("input source", "")
            rows.append((kind, f["feature name"], f["element type name"], shape, aligned, layout, source))
    columns = ("", "tensor", "type", "shape", "aligned", "layout", "source")
    return Table(f"tensors of {model['model name']}", columns, tuple(rows))


def _disassembled(path: Path) -> list[dict[str, Any]]:
    from accel.toolchain.find import require
    from accel.toolchain.process import run

    env = require(HORIZON)
    with tempfile.TemporaryDirectory(prefix="accel-horizon-") as name:
        folder = Path(name)
        argv: list[str | Path] = ["hbdk-disas", path.resolve(), "--json", "-o", folder / "hbm.json"]
        done = run(env, argv, cwd=folder, log=folder / "log", timeout=600, stage="inspect")
        made = folder / "hbm.json"
        if done.rc or not made.is_file():
            error = failure(done, None, stage="inspect")
            raise AccelError(
                f"{path} is no .hbm that hbdk reads",
                code="artifact.unreadable",
                stage="inspect",
                cause=error.cause,
                log=error.log,
            )
        text = made.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise AccelError(f"{path}: hbdk-disas gave no JSON", code="artifact.unreadable", cause=str(error)) from error
    return list(found)


def _bin(path: Path) -> Report:
    from accel.toolchain.find import require
    from accel.toolchain.process import run

    env = require(HORIZON)
    with tempfile.TemporaryDirectory(prefix="accel-horizon-") as name:
        folder = Path(name)
        argv: list[str | Path] = [env.python, VENDOR_SIDE / "describe_bin.py", path.resolve(), folder / "bin.json"]
        done = run(env, argv, cwd=folder, log=folder / "log", timeout=600, stage="inspect")
        if done.rc:
            error = failure(done, None, stage="inspect")
            raise AccelError(
                f"{path} is no runtime model of Horizon", code="artifact.unreadable", cause=error.cause, log=error.log
            )
        found = json.loads((folder / "bin.json").read_text(encoding="utf-8"))
    tables = [Table("nodes", ("node", "operator", "where"), tuple(tuple(n) for n in found["nodes"]))]
    tables.append(Table("tensors", ("", "tensor", "type", "shape"), tuple(tuple(t) for t in found["tensors"])))
    info = tuple((k, v) for k, v in sorted(found["info"].items()) if v)
    tables.append(Table("how it was built", ("", ""), info))
    return Report(
        f"{path.name}: runtime model of Horizon",
        metrics=(
            Metric("file_size", path.stat().st_size, "B", "measured"),
            Metric("program_size", found["hbm_bytes"], "B", "measured"),
        ),
        tables=tuple(tables),
        subject={"march": found["info"].get("MARCH", "")},
        commands=(f"accel inspect {path}",),
    )


def _estimate(path: Path) -> Report | None:
    from accel_horizon.estimates import layers, metrics, read_summary

    if b'"HBDK version"' not in path.read_bytes()[: 1 << 20]:
        return None
    summary = read_summary(path)
    tables: Sequence[Table] = (layers(path.stem, summary),) if summary.get("layer details") else ()
    return Report(
        f"{path.name}: static performance by hbdk-perf",
        metrics=tuple(metrics([summary])),
        tables=tuple(tables),
        subject={"march": str(summary.get("BPU march", "")), "model": str(summary.get("model name", ""))},
        commands=(f"accel inspect {path}",),
    )

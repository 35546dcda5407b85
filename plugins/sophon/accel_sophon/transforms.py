"""The transform, once for all chips: its result depends on the network and its shape only."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel import progress
from accel.cache import Cache
from accel.model import Model

from accel_sophon.commands import Bench, transform
from accel_sophon.names import rename, safe_names

_FORM = 1
"""Raise it when what is put into a cached transform changes."""


@dataclass(frozen=True)
class Transformed:
    """Float MLIR in a working directory.

    Attributes:
        mlir: The file; its weights lie beside it.
        renamed: New tensor names by the model's, where the compiler's files could not hold them.
        reused: It came from the cache.
    """

    mlir: Path
    renamed: Mapping[str, str]
    reused: bool


def identifier(name: str) -> str:
    """``name`` as the compiler's files can hold it."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "net"
    return plain if plain[0].isalpha() else f"net_{plain}"


def to_mlir(
    bench: Bench,
    model: Model,
    *,
    preprocessing: Mapping[str, str] | None = None,
    dynamic: bool = False,
    cache: Cache | None = None,
) -> Transformed:
    """Float MLIR of ``model`` (fixed shapes) in the bench's folder, from the cache when it is there.

    A second chip of the vendor, another precision or other thresholds use the same one.
    """
    renamed = safe_names(model.proto)
    name = identifier(model.name)
    shapes = [[int(d) for d in spec.shape] for spec in model.inputs]
    store = cache or Cache()
    key = _key(bench, model, name, shapes, preprocessing or {}, dynamic)
    mlir = bench.folder / f"{name}.mlir"
    with store.lock(f"sophon-{key}"):
        found = store.get("sophon-transform", key)
        if found is not None:
            for file in found.iterdir():
                if file.name != "entry.json":
                    shutil.copyfile(file, bench.folder / file.name)
            return Transformed(mlir, renamed, True)
        source = bench.folder / f"{name}.onnx"
        source.write_bytes(_readable(model, renamed))
        with progress.step("reading the network (model_transform)"):
            transform(bench, name, source, shapes, preprocessing=preprocessing, dynamic=dynamic)
        source.unlink()
        _keep(store, key, bench.folder, mlir, model.name)
    return Transformed(mlir, renamed, False)


def _keep(store: Cache, key: str, folder: Path, mlir: Path, label: str) -> None:
    from accel_sophon.mlir import read

    weights = read(mlir).weight_file
    kept = folder / "transform.keep"
    kept.mkdir()
    for file in (mlir, folder / weights):
        if file.is_file():
            shutil.copyfile(file, kept / file.name)
    store.put("sophon-transform", key, kept, f"{label}: float MLIR")
    shutil.rmtree(kept)


def _readable(model: Model, renamed: Mapping[str, str]) -> bytes:
    made = rename(model.proto, renamed)
    # The toolchain's onnx reads up to IR 9; nothing newer than 8 is in an opset it reads.
    made.ir_version = min(made.ir_version, 8)
    return bytes(made.SerializeToString())


def _key(
    bench: Bench,
    model: Model,
    name: str,
    shapes: Sequence[Sequence[int]],
    preprocessing: Mapping[str, str],
    dynamic: bool,
) -> str:
    parts = [_FORM, bench.env.version, model.digest, name, shapes, sorted(preprocessing.items()), dynamic]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

"""The transform, once for all chips: its result depends on the network and its shape only, and weights are replaced."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accel import progress
from accel.cache import Cache
from accel.model import Model

from accel_sophon import weights
from accel_sophon.commands import Bench, transform
from accel_sophon.mlir import read
from accel_sophon.names import rename, safe_names

if TYPE_CHECKING:
    import onnx

_FORM = 2
"""Raise it when what is put into a cached transform changes."""

_PLACES = "weights.json"


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

    A second chip of the vendor, another precision or other thresholds use the same one; weights and biases that were
    tuned for another chip are exchanged in it.
    """
    renamed = safe_names(model.proto)
    proto = rename(model.proto, renamed)
    name = identifier(model.name)
    shapes = [[int(d) for d in spec.shape] for spec in model.inputs]
    store = cache or Cache()
    graph, values = weights.split(proto)
    common = [_FORM, bench.env.version, name, shapes, sorted((preprocessing or {}).items()), dynamic]
    shared, own = (_key(digest, *common) for digest in (graph, f"{model.digest} as it is"))
    mlir = bench.folder / f"{name}.mlir"
    with store.lock(f"sophon-{shared}"):
        found = store.get("sophon-transform", shared) or store.get("sophon-transform", own)
        if found is not None:
            for file in found.iterdir():
                if file.name not in ("entry.json", _PLACES):
                    shutil.copyfile(file, bench.folder / file.name)
            if (found / _PLACES).exists():
                weights.put(values, weights.load(found / _PLACES), bench.folder / read(mlir).weight_file)
            return Transformed(mlir, renamed, True)
        source = bench.folder / f"{name}.onnx"
        source.write_bytes(_readable(proto))
        with progress.step("reading the network (model_transform)"):
            transform(bench, name, source, shapes, preprocessing=preprocessing, dynamic=dynamic)
        source.unlink()
        arrays = bench.folder / read(mlir).weight_file
        places = weights.find(proto, values, arrays) if arrays.is_file() else None
        _keep(store, own if places is None else shared, [mlir, arrays], places, model.name)
    return Transformed(mlir, renamed, False)


def _keep(store: Cache, key: str, files: Sequence[Path], places: weights.Places | None, label: str) -> None:
    kept = files[0].parent / "transform.keep"
    kept.mkdir()
    for file in files:
        if file.is_file():
            shutil.copyfile(file, kept / file.name)
    if places is not None:
        weights.save(places, kept / _PLACES)
    store.put("sophon-transform", key, kept, f"{label}: float MLIR")
    shutil.rmtree(kept)


def _readable(proto: onnx.ModelProto) -> bytes:
    # The toolchain's onnx reads up to IR 9; nothing newer than 8 is in an opset it reads.
    proto.ir_version = min(proto.ir_version, 8)
    return bytes(proto.SerializeToString())


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

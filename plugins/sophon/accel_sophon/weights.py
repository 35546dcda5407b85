"""Weights apart from the graph that uses them: networks that differ in their values only share one transform.

Chips that round differently are given differently tuned weights and biases of the same network. The compiler's float
MLIR keeps them in a file of arrays beside the graph; other values are put there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Arrays = dict[str, NDArray[np.float32]]
Places = dict[str, tuple[str, bool]]
"""By weight (its operator's result and the operand's number): the name in the compiler's file, and "transposed"."""

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def split(proto: onnx.ModelProto) -> tuple[str, Arrays]:
    """SHA-256 (hex) of what the transform depends on beside the weights, and the weights.

    Weights and biases of convolutions and matrix products are meant, by ``<result>:<operand>``, where nothing else
    reads them; every other constant may decide what the graph becomes and counts with its values.
    """
    graph = proto.graph
    held = {i.name: i for i in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(o.name for o in graph.output)
    weights: Arrays = {}
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    gone = set()
    for node in plain.graph.node:
        if node.op_type not in _LINEAR:
            continue
        for at in range(1, len(node.input)):
            found = held.get(node.input[at])
            if found is None or found.data_type != TensorProto.FLOAT or uses[found.name] != 1:
                continue
            label = f"{node.output[0]}:{at}"
            weights[label] = numpy_helper.to_array(found)
            gone.add(found.name)
            node.input[at] = f"{label} {list(found.dims)}"
    kept = sorted((i for i in plain.graph.initializer if i.name not in gone), key=lambda i: str(i.name))
    kept = [onnx.TensorProto.FromString(i.SerializeToString()) for i in kept]
    del plain.graph.initializer[:], plain.graph.value_info[:], plain.metadata_props[:]
    plain.graph.initializer.extend(kept)
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest(), weights


def find(proto: onnx.ModelProto, weights: Arrays, file: Path) -> Places | None:
    """Where ``file`` (the compiler's) holds the ``weights`` of ``proto``; None unless all are there, unchanged."""
    names = {f"{n.output[0]}:{at}": name for n in proto.graph.node for at, name in enumerate(n.input) if n.output}
    places: Places = {}
    with np.load(file, allow_pickle=False) as arrays:
        for label, value in weights.items():
            for key in (names[label], f"{names[label]}_fix"):
                if key not in arrays.files:
                    continue
                there = arrays[key]
                if np.array_equal(there.reshape(-1), value.reshape(-1)):
                    places[label] = key, False
                elif value.ndim == 2 and np.array_equal(there, value.T):
                    places[label] = key, True
    keys = [key for key, _ in places.values()]
    return places if len(places) == len(weights) and len(set(keys)) == len(keys) else None


def put(weights: Arrays, places: Places, file: Path) -> None:
    """Write ``weights`` into the compiler's ``file``."""
    with np.load(file, allow_pickle=False) as held:
        arrays = {key: held[key] for key in held.files}
    for label, (key, transposed) in places.items():
        value = weights[label].T if transposed else weights[label]
        arrays[key] = np.ascontiguousarray(value, np.float32).reshape(arrays[key].shape)
    np.savez(file, **arrays)


def save(places: Places, file: Path) -> None:
    """Write places as JSON."""
    file.write_text(json.dumps(places), encoding="utf-8")


def load(file: Path) -> Places:
    """What :func:`save` wrote."""
    found: Mapping[str, list[object]] = json.loads(file.read_text(encoding="utf-8"))
    return {label: (str(key), bool(transposed)) for label, (key, transposed) in found.items()}

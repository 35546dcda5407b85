"""Caffe files given to the compiler unchanged (``--frontend vendor``): its values by the tensors of our own reading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accel import progress
from accel.errors import AccelError
from accel.model import VENDOR_TENSORS, Model

from accel_sophon import mlir
from accel_sophon.commands import Bench, transform
from accel_sophon.simulators import Simulator
from accel_sophon.transforms import Transformed, identifier

STAND_INS = Path(__file__).parent / "vendor_side" / "caffe_stand_ins"
"""Packages that the compiler's pycaffe imports and does not declare."""

TOLERANCE = 1e-3
"""Largest difference of a value in the two readings, relative to its largest magnitude."""


def caffe_bench(bench: Bench) -> Bench:
    """``bench`` with what the compiler's Caffe reader imports on its path."""
    path = f"{STAND_INS}:{bench.env.variables['PYTHONPATH']}"
    return replace(bench, env=replace(bench.env, variables={**bench.env.variables, "PYTHONPATH": path}))


def sources(model: Model) -> tuple[Path, Path]:
    """Definition and weights.

    Raises:
        AccelError: ``usage.frontend`` when they are not there any more.
    """
    by_kind = {s.suffix.lower(): s for s in model.sources}
    found = by_kind.get(".prototxt"), by_kind.get(".caffemodel")
    if found[0] is None or found[1] is None or not (found[0].is_file() and found[1].is_file()):
        raise AccelError("the network's prototxt and caffemodel are gone", code="usage.frontend")
    return found[0], found[1]


def read_caffe(
    bench: Bench,
    model: Model,
    feeds: Mapping[str, Any],
    preprocessing: Mapping[str, str] | None = None,
    *,
    every_value: bool = True,
) -> tuple[Transformed, dict[str, str]]:
    """Float MLIR of the files themselves, and which tensor of ``model`` each of its values is.

    The mapping is proven: both readings are run on ``feeds`` and every value compared. With ``every_value`` each one
    must have its tensor, as our thresholds need it; else values that the compiler makes up inside a layer (the squares
    and roots of a Normalize) stay without.

    Raises:
        AccelError: ``usage.output`` for an output that is no blob; ``failed.names`` naming the value that has no
            tensor or differs; what :mod:`accel_sophon.hints` makes of the compiler's log.
    """
    written: dict[str, list[str]] = json.loads(model.metadata[VENDOR_TENSORS])
    definition, weights = sources(model)
    name = identifier(model.name)
    for source, suffix in ((definition, ".prototxt"), (weights, ".caffemodel")):
        shutil.copyfile(source, bench.folder / f"{name}{suffix}")
    shapes = [[int(d) for d in spec.shape] for spec in model.inputs]
    with progress.step("reading the network (model_transform)"):
        path = transform(
            caffe_bench(bench),
            name,
            bench.folder / f"{name}.prototxt",
            shapes,
            weights=bench.folder / f"{name}.caffemodel",
            output_names=output_blobs(model),
            preprocessing=preprocessing,
        )
    module = mlir.read(path)
    tensors = _tensors(module, written, {s.name for s in model.inputs}, [s.name for s in model.outputs], every_value)
    back = {tensor: place for place, tensor in tensors.items()}
    made = Transformed(path, {spec.name: back[spec.name] for spec in model.inputs}, False)
    _prove(bench, model, made, tensors, feeds)
    return made, tensors


def locations(written: Mapping[str, list[str]]) -> dict[str, str]:
    """Tensor by the compiler's name of a value: a blob's last writer has its name, earlier ones ``blob/1``, ``blob/2``
    and so on counted from the end."""
    found = {}
    for blob, tensors in written.items():
        for at, tensor in enumerate(tensors):
            after = len(tensors) - 1 - at
            found[f"{blob}/{after}" if after else blob] = tensor
    return found


def _tensors(
    module: mlir.Module, written: Mapping[str, list[str]], inputs: set[str], outputs: Sequence[str], every_value: bool
) -> dict[str, str]:
    outputs = [written[o][-1] if o in written else o for o in outputs]
    known = locations({**{name: [name] for name in inputs}, **written})
    found, unknown = {}, []
    for op in module.values():
        for place in op.names:
            if place in known:
                found[place] = known[place]
            else:
                unknown.append(f"{place} ({op.kind.removeprefix('top.')})")
    for name in outputs:
        # The compiler's reader stops at the first layer that writes an output, and loses those that follow in place.
        if name not in found.values():
            raise _unmapped(name, "the compiler's graph ends before this output is complete")
    if unknown and every_value:
        raise _unmapped(unknown[0], f"{len(unknown)} value(s) of the compiler's graph are no blob: {unknown[:5]}")
    return found


def output_blobs(model: Model) -> list[str]:
    """The blob of each output, by which the compiler cuts the network.

    Raises:
        AccelError: ``usage.output`` for an output that is no blob.
    """
    written: dict[str, list[str]] = json.loads(model.metadata[VENDOR_TENSORS])
    return [_blob(spec.name, written) for spec in model.outputs]


def _blob(tensor: str, written: Mapping[str, list[str]]) -> str:
    if tensor in written:
        return tensor
    blob = next((b for b, tensors in written.items() if tensors and tensors[-1] == tensor), None)
    if blob is None:
        raise AccelError(
            f"output {tensor!r} is no blob of the Caffe network",
            code="usage.output",
            hints=["With --frontend vendor the network can be cut at blobs only."],
        )
    return blob


def _prove(bench: Bench, model: Model, made: Transformed, tensors: Mapping[str, str], feeds: Mapping[str, Any]) -> None:
    from accel.builtin.evaluate.float_runner import FloatRunner

    with Simulator(bench.env, "mlir", "", made.mlir) as simulator:
        theirs = simulator.infer({made.renamed[n]: a for n, a in feeds.items()}, fetch="all")
    with FloatRunner(model) as runner:
        known = {*runner.layers(), *(s.name for s in model.outputs)}
        ours = runner.run(feeds, [t for t in dict.fromkeys(tensors.values()) if t in known])
    for place, tensor in tensors.items():
        if tensor not in ours or place not in theirs:
            continue
        a, b = np.asarray(ours[tensor]).reshape(-1), np.asarray(theirs[place]).reshape(-1)
        largest = float(np.abs(a).max()) if a.size else 0.0
        if a.size != b.size or float(np.abs(a - b).max()) > TOLERANCE * max(largest, 1e-6):
            off = "another size" if a.size != b.size else f"off by {np.abs(a - b).max():.3g} of {largest:.3g}"
            raise _unmapped(place, f"our reading and the compiler's differ there: {off}")


def _unmapped(place: str, cause: str) -> AccelError:
    return AccelError(
        f"value {place!r} of the compiler's Caffe graph is not what our own reading says",
        code="failed.names",
        stage="build",
        node=place,
        cause=cause,
        hints=[
            "Leave --frontend vendor out: our importer reads the network and nothing has to be matched.",
            "Or let the vendor's tool calibrate, which needs no names: --calibrator vendor",
        ],
    )

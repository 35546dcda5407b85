"""accel_build: transform, thresholds, deploy, combine, verify, write the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from accel import progress
from accel.artifact import SCHEMA, Artifact, Manifest
from accel.artifacts import write_artifact
from accel.builtin.prepare.split import Split, split_tail
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target
from accel.toolchain.find import require
from accel.toolchain.spec import Environment
from accel.versions import versions

from accel_sophon.bmodel import combine_batches
from accel_sophon.check import unsupported_nodes
from accel_sophon.commands import Bench
from accel_sophon.compiling import compile_batch
from accel_sophon.content import collect, details, nodes_of
from accel_sophon.float_layers import asked, worst_layers
from accel_sophon.host import host_details, host_nodes, write_tails
from accel_sophon.pixels import fold, refuse_pixels, stored
from accel_sophon.refusals import refuse_and_note
from accel_sophon.rewrites import spread_dilations
from accel_sophon.toolchain import SOPHON
from accel_sophon.transforms import identifier

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range

OPSET = 17
"""Highest opset we hand to the compiler."""


def build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact:
    """Compile for a Sophon chip.

    Raises:
        AccelError: whatever the compiler could not do, with its log kept outside the workspace.
    """
    env = require(SOPHON)
    log = workspace / "compile.log"
    try:
        return _build(env, model, target, options, calibration, workspace, log)
    except AccelError as error:
        if log.exists():
            kept = platformdirs.user_log_path("accel", ensure_exists=True) / _log_name(model, target)
            shutil.copyfile(log, kept)
            error.log = kept
        raise


def _build(
    env: Environment,
    model: Model,
    target: Target,
    options: BuildOptions,
    calibration: Calibration | None,
    workspace: Path,
    log: Path,
) -> Artifact:
    prepared = _prepared(model, target, options, calibration)
    options, split, notes = prepared.options, prepared.split, list(prepared.notes)
    done = []
    for batch in options.batches:
        folder = workspace / f"batch{batch}"
        folder.mkdir()
        with progress.step(f"compiling for {target.name}, batch {batch}") as step:
            bench = Bench(env, folder, log, _progress(step.at))
            done.append(compile_batch(bench, prepared.network, batch, target, options, calibration, prepared.kept))
    name = identifier(model.name)
    directory = workspace / "artifact"
    directory.mkdir()
    bmodel = directory / f"{name}.bmodel"
    if len(done) == 1:
        shutil.copyfile(done[0].bmodel, bmodel)
    else:
        combine_batches(Bench(env, workspace, log), [(c.batch, c.bmodel) for c in done], bmodel, chip=target.arch)
    files = collect(directory, done, bmodel, log)
    if split:
        files["host"] = write_tails(directory, model, split, options.batches)
    first = done[0]
    for compiled in done:
        if compiled.thresholds:
            notes += compiled.thresholds.notes
        if compiled.verdict:
            notes += compiled.verdict.notes
    notes.append("two builds of the same input differ in a timestamp inside the .bmodel, in nothing else")
    manifest = Manifest(
        schema=SCHEMA,
        name=model.name,
        target=target.name,
        vendor="sophon",
        backend="vendor",
        precision=target.numerics_for(options.precision).precision,
        payload="bmodel",
        inputs=model.inputs,
        outputs=model.outputs,
        batches=options.batches,
        files=(),
        model_digest=model.digest,
        preprocessing=stored(options),
        passes=prepared.network.passes,
        nodes=(*nodes_of(first, target), *(host_nodes(split) if split else ())),
        versions={**versions(["accel-core", "accel-sophon"]), "tpu_mlir": env.version},
        options={"method": options.method, "calibrator": options.calibrator, "opt": str(options.opt or "")},
        notes=tuple(dict.fromkeys(notes)),
        details={**details(done, target), **(host_details(split) if split else {})},
    )
    return write_artifact(directory, manifest, files)


@dataclass(frozen=True)
class Prepared:
    """What goes to the compiler.

    Attributes:
        network: The chip's part, tuned for its arithmetic.
        kept: Our range of each tensor; empty with the vendor's calibrator and in float.
        split: The chip's and the host's part, None when the chip does it all.
        options: As asked, with the layers that are kept in float.
        notes: For the manifest.
    """

    network: Model
    kept: Mapping[str, Range]
    split: Split | None
    options: BuildOptions
    notes: Sequence[str]


def _prepared(model: Model, target: Target, options: BuildOptions, calibration: Calibration | None) -> Prepared:
    notes = refuse_and_note(target, options)
    refuse_pixels(model, target, options)
    split = split_tail(model, unsupported_nodes(model, target, options))
    if split:
        notes.append(f"on the host, behind the chip's part: {_told(split.nodes)}")
        options = replace(options, node_precisions=_without(options.node_precisions, split.nodes))
    network = split.chip if split else model
    if options.set.get("float_layers"):
        chosen = _float_layers(network, target, options, calibration)
        options = replace(options, node_precisions={**chosen, **options.node_precisions})
        notes.append(f"kept in fp32 by --set float_layers: {', '.join(chosen)}")
    network, kept = _tuned(network, target, options, calibration)
    if network.vendor_reads:
        notes.append("the compiler read the Caffe files itself, unchanged: no preparation or tuning of ours is in it")
    else:
        network = spread_dilations(readable(network), target, target.numerics_for(options.precision))
    if options.fold_preprocessing and options.preprocessing is not None:
        network, kept = fold(network, options.preprocessing, kept)
    return Prepared(network, kept, split, options, notes)


def _tuned(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None
) -> tuple[Model, Mapping[str, Range]]:
    """Our thresholds, and the model with the tuning passes for this chip's arithmetic."""
    from accel.builtin.prepare.tuning import choose_ranges, tune
    from accel.builtin.reference.build import node_numerics

    numerics = target.numerics_for(options.precision)
    if not numerics.quantized or calibration is None or options.calibrator == "vendor":
        return model, {}
    kept = choose_ranges(model, calibration, options.method, numerics=numerics)
    if model.vendor_reads:
        return model, kept
    overrides = node_numerics(target, options.node_precisions)
    return tune(model, numerics, kept, calibration, options.passes, node_numerics=overrides), kept


def _told(nodes: Mapping[str, str], most: int = 4) -> str:
    own = [f"{name} ({reason})" for name, reason in nodes.items()]
    return ", ".join(own[:most]) + (f" and {len(own) - most} more" if len(own) > most else "")


def _without(precisions: Mapping[str, str], nodes: Mapping[str, str]) -> dict[str, str]:
    for name in precisions:
        if name in nodes:
            raise AccelError(
                f"node {name!r} runs on the host and has no precision of the chip",
                code="usage.node",
                node=name,
                cause=nodes[name],
            )
    return dict(precisions)


def _float_layers(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None
) -> dict[str, str]:
    """What ``--set float_layers=N`` keeps in float, ``fp32`` by node name."""
    from accel.builtin.prepare.tuning import choose_ranges

    numerics, count = target.numerics_for(options.precision), asked(options.set["float_layers"])
    if not numerics.quantized:
        return {}
    if calibration is None or options.calibrator == "vendor":
        raise AccelError(
            "float_layers chooses by our calibration",
            code="usage.option",
            hints=["Leave --calibrator vendor away, or let the vendor's tool search: --set search=search_qtable"],
        )
    ranges = choose_ranges(model, calibration, options.method, numerics=numerics)
    return worst_layers(model, numerics, ranges, calibration, count)


def readable(model: Model) -> Model:
    """The model at an opset that the compiler reads."""
    found = max((i.version for i in model.proto.opset_import if i.domain in ("", "ai.onnx")), default=0)
    if found <= OPSET:
        return model
    from importlib import import_module

    made: Model = import_module("accel.builtin.prepare.opset").lower(model, OPSET)
    return made


def _progress(at: Callable[..., None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if line.startswith(("[Running]", "tpuc-opt", "[CMD]")):
            at(0, note=line[:60])

    return on_line


def _log_name(model: Model, target: Target) -> str:
    moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    return f"sophon-{identifier(model.name)}-{target.name}-{moment}.log"

"""Who builds, opens and measures an MLU artifact: the vendor's software where it is, else the embedded reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accel.artifact import Artifact
from accel.artifacts import write_manifest
from accel.builtin.roofline import count
from accel.calibration import Calibration
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions, RunOptions
from accel.report import Report
from accel.runner import Runner
from accel.target import Numerics, Target
from accel.toolchain.find import find, require
from accel.toolchain.spec import Toolchain

from accel_mlu import perf as predicted
from accel_mlu.options import MluOptions, numerics, read_options
from accel_mlu.overflow import NODES, HalfRunner
from accel_mlu.targets import FIXED_POINT_OPS

_VENDOR_ONLY = {
    "remote",
    "config",
    "dim_range",
    "input_layout",
    "output_layout",
    "cross_compile_toolchain_path",
    "computation_preference",
    "graph_shape_mutable",
    "parser",
    "range_names",
    "first_conv",
    "variants",
}


def toolchain_of(target: Target) -> Toolchain:
    """The toolchain that builds for ``target``."""
    from accel_mlu.magicmind.toolchain import MAGICMIND
    from accel_mlu.older.build import CAMBRICON_PYTORCH

    return CAMBRICON_PYTORCH if target.toolchain == CAMBRICON_PYTORCH.name else MAGICMIND


def build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact:
    """Build ``model`` for an MLU.

    Raises:
        AccelError: ``usage.option``, ``unsupported.*``, ``toolchain.*`` with ``backend="vendor"``.
    """
    mlu = read_options(target, options)
    asked = numerics(target, options.precision, mlu)
    options = replace(options, precision=asked.precision)
    if mlu.script and options.backend == "reference":
        raise AccelError("the reference needs no script", code="usage.option", hints=["Leave --backend reference out."])
    from accel_mlu.magicmind import build as magicmind
    from accel_mlu.older import build as older

    chain = toolchain_of(target)
    if mlu.script and chain is older.CAMBRICON_PYTORCH:
        return older.emit(model, target, options, mlu, asked, workspace)
    if mlu.script:
        return magicmind.emit(model, target, options, mlu, calibration, workspace)
    if options.backend != "reference":
        environment = require(chain) if options.backend == "vendor" else find(chain)
        if environment is not None and chain is older.CAMBRICON_PYTORCH:
            return older.build(model, target, options, mlu, asked, workspace, environment)
        if environment is not None:
            return magicmind.build(model, target, options, mlu, calibration, workspace, environment)
    return _reference(model, target, options, asked, mlu, calibration, workspace)


def _reference(
    model: Model,
    target: Target,
    options: BuildOptions,
    asked: Numerics,
    mlu: MluOptions,
    calibration: Calibration | None,
    workspace: Path,
) -> Artifact:
    from accel.builtin.reference.build import build as reference_build

    chip = replace(target, numerics={**target.numerics, asked.precision: asked})
    made = reference_build(model, chip, options, calibration, workspace)
    refused = [n for n in made.manifest.nodes if n.op_type in FIXED_POINT_OPS and _is_float(target, n.precision)]
    if refused and target.refusals:
        raise AccelError(
            f"{target.name} cannot compute {refused[0].op_type} {refused[0].node!r} in {refused[0].precision}",
            code="unsupported.node",
            cause=next(iter(target.refusals.values())),
            node=refused[0].node,
            hints=["Cut the network before it (--outputs), or build for an MLU370."],
        )
    notes = list(made.manifest.notes)
    if options.calibrator == "vendor":
        notes.append("the reference uses our calibration: the SDK's calibrator runs on a card")
    for word in sorted(set(options.set) & _VENDOR_ONLY):
        notes.append(f"{word} is for the vendor's software; the reference does not use it")
    details = {**made.manifest.details, predicted.COSTS: predicted.costs_to_json(count(model))}
    if asked.float_type == "fp16":
        details[NODES] = {out: node.name or out for node in model.proto.graph.node for out in node.output if out}
    manifest = replace(made.manifest, notes=tuple(notes), details=details)
    write_manifest(made.path, manifest)
    return Artifact(made.path, manifest)


def open_runner(artifact: Artifact, options: RunOptions) -> Runner | None:
    """A runner for the vendor's payloads; None for others.

    Raises:
        AccelError: ``usage.artifact`` for a script that was not run yet; ``toolchain.*`` without SDK or card.
    """
    payload = artifact.manifest.payload
    if payload == "cambricon":
        raise AccelError(
            "offline models of Cambricon PyTorch run on the card only, by the vendor's runtime",
            code="unsupported.run",
            hints=[f"On the card's machine: cnrtexec {artifact.file('model').name} 0 1000 1 1"],
        )
    if payload in ("magicmind-script", "cambricon-script"):
        raise AccelError(
            f"{artifact.path} holds a script, not a model",
            code="usage.artifact",
            hints=[f"Run {artifact.file('model')} with the vendor's Python first."],
        )
    if payload == "magicmind":
        from accel_mlu.magicmind.run import MagicMindRunner

        return MagicMindRunner(artifact, options)
    if payload == "reference" and NODES in artifact.manifest.details:
        return HalfRunner.of(artifact, options)
    return None


def perf(artifact: Artifact, options: RunOptions) -> Report:
    """Measured where a card, the SDK and its payload are; else predicted."""
    from accel.plugins import registry

    from accel_mlu.magicmind.toolchain import cards

    manifest = artifact.manifest
    batches = (options.batch,) if options.batch else manifest.batches
    if manifest.payload == "magicmind" and cards() and options.device != "simulator":
        from accel_mlu.magicmind.perf import measure

        return measure(artifact, options, batches)
    return predicted.report(artifact, registry().target(manifest.target), batches)


def _is_float(target: Target, precision: str) -> bool:
    found = target.numerics.get(precision)
    return found is None or not found.quantized

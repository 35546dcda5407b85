"""The reference's build: a float model, a target and a calibration in, an artifact out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accel.artifact import Artifact, Manifest
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference import normalise
from accel.builtin.reference.quantize import QuantizedModel, quantize
from accel.calibration import Calibration, Range
from accel.errors import AccelError
from accel.model import Model
from accel.numerics import float_numerics
from accel.options import BuildOptions
from accel.target import Numerics, Target

PAYLOAD = "reference"
FP16_MAX = 65504.0


def build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact:
    """Quantise ``model`` by the numerics of ``target`` and leave the artifact in ``workspace / "artifact"``.

    Raises:
        AccelError: ``unsupported.precision``, ``usage.node``, ``usage.calibration`` (a quantised precision without
            calibration), ``calibration.mismatch``, ``calibration.missing``.
    """
    import msgspec
    import onnx

    from accel import progress
    from accel.artifacts import write_artifact
    from accel.versions import versions

    numerics = target.numerics_for(options.precision, options.set)
    overrides = node_numerics(target, options.node_precisions)
    ranges = thresholds(model, numerics, overrides, options, calibration)
    tuned = tune(model, numerics, ranges, calibration, options.passes, node_numerics=overrides)
    directory = workspace / "artifact"
    directory.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    quantized: QuantizedModel | None = None
    with progress.step(f"quantise for {target.name} {numerics.precision}", len(options.batches)) as step:
        for batch in options.batches:
            made = quantize(
                at_batch(tuned, batch), numerics, ranges, node_numerics=overrides, place=f"{target.name} (reference)"
            )
            if options.fold_preprocessing:
                made = replace(made, proto=normalise.fold(made.proto, options.preprocessing))
            path = directory / (f"{model.name}.onnx" if quantized is None else f"{model.name}_b{batch}.onnx")
            path.write_bytes(made.proto.SerializeToString(deterministic=True))
            onnx.checker.check_model(made.proto)
            paths.append(path)
            quantized = quantized or made
            step.advance()
    assert quantized is not None
    forms = directory / "tensors.json"
    forms.write_bytes(msgspec.json.format(msgspec.json.encode(quantized.tensors), indent=1))
    first = at_batch(model, options.batches[0])
    manifest = Manifest(
        schema=0,
        name=model.name,
        target=target.name,
        vendor=target.vendor,
        backend="reference",
        precision=numerics.precision,
        payload=PAYLOAD,
        inputs=first.inputs,
        outputs=first.outputs,
        batches=tuple(options.batches),
        files=(),
        model_digest=model.digest,
        calibration_digest=calibration.data_digest if calibration is not None and ranges else "",
        preprocessing=replace(options.preprocessing, folded=True)
        if options.fold_preprocessing and options.preprocessing is not None
        else options.preprocessing,
        passes=tuned.passes,
        nodes=quantized.nodes,
        versions=versions(["accel-core", f"accel-{target.vendor}", "onnxruntime", "onnx", "numpy"]),
        options=described(options),
        notes=(*quantized.notes, *overflows(tuned, numerics, overrides, calibration)),
        details={"numerics": msgspec.to_builtins(numerics)},
    )
    return write_artifact(directory, manifest, {"model": paths, "data": forms})


def node_numerics(target: Target, precisions: Mapping[str, str]) -> dict[str, Numerics]:
    """Numerics by node name; ``fp32``, ``fp16`` and ``bf16`` are always to be had."""
    found: dict[str, Numerics] = {}
    for node, precision in precisions.items():
        try:
            found[node] = target.numerics_for(precision)
        except AccelError:
            if precision not in ("fp32", "fp16", "bf16"):
                raise
            found[node] = float_numerics(precision)  # type: ignore[arg-type]
    return found


def thresholds(
    model: Model,
    numerics: Numerics,
    overrides: Mapping[str, Numerics],
    options: BuildOptions,
    calibration: Calibration | None,
) -> dict[str, Range]:
    """The kept range of every tensor, by ``options.method``."""
    if not numerics.quantized and not any(n.quantized for n in overrides.values()):
        return {}
    if calibration is None:
        raise AccelError(
            f"precision {numerics.precision} needs a calibration",
            code="usage.calibration",
            hints=["Give calibration data: --data FOLDER", "Or build a float precision."],
        )
    if calibration.model_digest != model.digest:
        raise AccelError(
            f"the calibration was measured on another model than {model.name}",
            code="calibration.mismatch",
            cause="the digest of its graph differs",
            hints=["Calibrate this model again."],
        )
    known: dict[tuple[int, bool, str], dict[str, Range]] = {}

    def by(n: Numerics) -> dict[str, Range]:
        assert n.activation is not None
        bits, symmetric = n.activation.bits, n.activation.symmetric
        key = (bits, symmetric, n.details.get("auto_rest", ""))
        if key not in known:
            known[key] = choose_ranges(model, calibration, options.method, bits=bits, symmetric=symmetric, numerics=n)
        return known[key]

    ranges = dict(by(numerics)) if numerics.quantized else {}
    for node in model.proto.graph.node:
        other = overrides.get(node.name)
        if other is not None and other.quantized:
            for name in [*node.output, *node.input]:
                if name in by(other) and (name in node.output or name not in ranges):
                    ranges[name] = by(other)[name]
    return ranges


def overflows(
    model: Model, numerics: Numerics, overrides: Mapping[str, Numerics], calibration: Calibration | None
) -> tuple[str, ...]:
    """A line when the calibration saw values that fp16 cannot hold, naming the first node that gives them."""
    if calibration is None:
        return ()
    beyond = []
    for node in model.proto.graph.node:
        own = overrides.get(node.name, numerics)
        floating = not own.quantized or own.dataflow == "inputs" or node.op_type not in own.quantized_ops
        for name in node.output:
            stats = calibration.tensors.get(name)
            if own.float_type == "fp16" and floating and stats and max(-stats.low, stats.high) > FP16_MAX:
                beyond.append((node.name, max(-stats.low, stats.high)))
    if not beyond:
        return ()
    node_name, value = beyond[0]
    return (
        f"fp16 overflows to infinity: {len(beyond)} tensors went beyond {FP16_MAX:g} in the calibration, "
        f"the first at node {node_name!r} ({value:.4g})",
    )


def at_batch(model: Model, batch: int) -> Model:
    """The model at a fixed batch size."""
    sizes = {spec.shape[0] if spec.shape else batch for spec in model.inputs}
    if sizes == {batch}:
        return model
    from accel.builtin.prepare import batch as batches  # type: ignore[attr-defined,unused-ignore]

    made: Model = batches.set_batch(model, batch)
    return made


def described(options: BuildOptions) -> dict[str, str]:
    """The options that decided the build, as strings, without paths or data."""
    plain: dict[str, Any] = {
        "precision": options.precision,
        "method": options.method,
        "batches": ",".join(map(str, options.batches)),
        "fold_preprocessing": options.fold_preprocessing,
        "node_precisions": ",".join(f"{k}={v}" for k, v in sorted(options.node_precisions.items())),
    }
    return {key: str(value) for key, value in plain.items() if value not in ("", False)}

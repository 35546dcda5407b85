"""Offline models for MLU220 and MLU270: in the vendor's Python, or as a script for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accel import progress
from accel.artifact import Artifact, Manifest
from accel.artifacts import write_artifact
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Numerics, Target
from accel.toolchain.spec import Environment, Toolchain

from accel_mlu.graph import node_numerics
from accel_mlu.magicmind.plan import script_text
from accel_mlu.magicmind.toolchain import locate_package, neuware_home
from accel_mlu.older.network import describe
from accel_mlu.options import MluOptions

PAYLOAD = "cambricon"
SCRIPT_PAYLOAD = "cambricon-script"
SDK = Path(__file__).with_name("sdk.py")
VARIANTS = {
    "qint8_mixed_float16": "int8_fp16",
    "qint8_mixed_float32": "int8_fp32",
    "qint16_mixed_float16": "int16_fp16",
    "qint16_mixed_float32": "int16_fp32",
}
"""What users of the older stack call the precisions; a build may make several."""


def locate() -> Environment | None:
    """The Cambricon PyTorch of this machine."""
    home = neuware_home()
    return locate_package("cambricon-pytorch", "torch_mlu", home) if home else None


CAMBRICON_PYTORCH = Toolchain(
    name="cambricon-pytorch",
    version="",
    summary="Cambricon PyTorch (torch_mlu) for MLU220 and MLU270 (from the vendor; NEUWARE_HOME)",
    kind="system",
    python="3.7",
    locate=locate,
)


def build(
    model: Model,
    target: Target,
    options: BuildOptions,
    mlu: MluOptions,
    numerics: Numerics,
    workspace: Path,
    environment: Environment,
) -> Artifact:
    """Build every asked variant; the artifact's payload is ``cambricon``, the asked precision's file first.

    Raises:
        AccelError: ``unsupported.node``, ``usage.calibration`` without samples, ``failed.worker``.
    """
    from accel.toolchain.worker import Worker

    folder = workspace / "artifact"
    folder.mkdir()
    notes: list[str] = []
    plan = _plan(model, target, options, mlu, workspace, notes)
    log = folder / "cambricon.log"
    with (
        progress.step(f"Cambricon PyTorch builds {model.name} for {target.name}: {', '.join(plan['variants'])}"),
        Worker(environment, SDK, cwd=workspace, log=log, stage="build") as worker,
    ):
        told, _ = worker.call("build", {"plan": plan})
    made = {variant: [workspace / f for f in files] for variant, files in told["made"].items()}
    models, twins = ([made[v][at] for v in plan["variants"]] for at in (0, 1))
    manifest = _manifest(model, target, options, numerics, PAYLOAD, plan, notes)
    return write_artifact(folder, manifest, {"model": models, "data": twins, "log": log})


def emit(
    model: Model, target: Target, options: BuildOptions, mlu: MluOptions, numerics: Numerics, workspace: Path
) -> Artifact:
    """Write what :func:`build` would do as a script with its inputs."""
    folder = workspace / "artifact"
    folder.mkdir()
    notes = ["nothing is built yet: run build_cambricon.py with the vendor's Python"]
    plan = _plan(model, target, options, mlu, folder, notes)
    written = folder / "build_cambricon.py"
    title = f"Builds {', '.join(plan['variants'])} of {model.name} with Cambricon PyTorch."
    written.write_text(script_text(SDK, title, written.name, plan, '", ".join(build(PLAN))'), encoding="utf-8")
    inside = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != written]
    manifest = _manifest(model, target, options, numerics, SCRIPT_PAYLOAD, plan, notes)
    return write_artifact(folder, manifest, {"model": written, "data": inside})


def _plan(
    model: Model, target: Target, options: BuildOptions, mlu: MluOptions, folder: Path, notes: list[str]
) -> dict[str, Any]:
    """JSON values; paths are relative to ``folder``, where the files are written."""
    from accel.builtin.prepare.batch import set_batch

    if len(options.batches) > 1:
        raise AccelError("an offline model has one batch", code="usage.option", hints=["Build each batch by itself."])
    if options.node_precisions:
        raise AccelError("Cambricon PyTorch quantises every module alike", code="unsupported.node_precision")
    fixed = set_batch(model, options.batches[0])
    graph, weights = describe(fixed)
    (folder / "network.json").write_text(json.dumps(graph, indent=1), encoding="utf-8")
    np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type]
    mean, std, first = _normalisation(options, mlu, fixed)
    return {
        "name": model.name,
        "graph": "network.json",
        "weights": "weights.npz",
        "shapes": [[int(d) for d in spec.shape] for spec in fixed.inputs],
        "samples": list(_samples(fixed, options, folder, notes)),
        "mean": mean,
        "std": std,
        "first_conv": first,
        "per_channel": mlu.per_axis,
        "core_version": target.name.upper(),
        "core_number": options.cores or target.cores[0],
        "variants": _variants(options.precision, mlu),
    }


def _variants(precision: str, mlu: MluOptions) -> list[str]:
    asked = VARIANTS[precision]
    wanted = list(VARIANTS.values()) if mlu.variants == ("all",) else list(mlu.variants or (asked,))
    unknown = [v for v in wanted if v not in VARIANTS.values()]
    if unknown:
        raise AccelError(
            f"there is no variant {unknown[0]!r}",
            code="usage.option",
            hints=[f"all, or: {', '.join(VARIANTS.values())}"],
        )
    return [asked, *(v for v in dict.fromkeys(wanted) if v != asked)]


def _normalisation(options: BuildOptions, mlu: MluOptions, model: Model) -> tuple[list[float], list[float], bool]:
    channels = model.inputs[0].shape[1] if len(model.inputs[0].shape) > 1 else 1
    count = channels if isinstance(channels, int) else 1
    if not mlu.first_conv and not options.fold_preprocessing:
        return [0.0] * count, [1.0] * count, False
    how = options.preprocessing
    if how is None:
        raise AccelError("the first convolution has no mean and std", code="usage.option", hints=["Give them."])
    mean, std = (np.resize(np.asarray(v, float) / how.scale, count).tolist() for v in (how.mean, how.std))
    return mean, std, True


def _samples(model: Model, options: BuildOptions, folder: Path, notes: list[str]) -> Iterator[list[str]]:
    """Files of each batch of samples; the quantiser's own pass over them is the calibration."""
    if options.dataset is None:
        raise AccelError(
            "Cambricon PyTorch calibrates by itself, on the CPU",
            code="usage.calibration",
            cause="its quantiser takes no ranges from outside",
            hints=["Give samples: --calibrator vendor --data FOLDER", "Or use --backend reference."],
        )
    (folder / "calibration").mkdir()
    batch, names = options.batches[0], [spec.name for spec in model.inputs]
    held: list[list[np.ndarray]] = [[] for _ in names]
    number = 0
    for sample in options.dataset:
        for place, name in zip(held, names, strict=True):
            place.append(np.asarray(sample.inputs[name], np.float32))
        if len(held[0]) == batch:
            files = [os.path.join("calibration", f"{number:05d}-{i}.npy") for i in range(len(names))]  # noqa: PTH118
            for file, arrays in zip(files, held, strict=True):
                np.save(folder / file, np.concatenate(arrays), allow_pickle=False)
            yield files
            number, held = number + 1, [[] for _ in names]
    if held[0]:
        notes.append(f"the last {len(held[0])} samples do not fill a batch and were left out")


def _manifest(
    model: Model,
    target: Target,
    options: BuildOptions,
    numerics: Numerics,
    payload: str,
    plan: dict[str, Any],
    notes: list[str],
) -> Manifest:
    shapes = plan["shapes"]
    inputs = tuple(replace(s, shape=tuple(d)) for s, d in zip(model.inputs, shapes, strict=True))
    outputs = tuple(replace(s, shape=(options.batches[0], *s.shape[1:])) for s in model.outputs)
    how = options.preprocessing
    return Manifest(
        schema=1,
        name=model.name,
        target=target.name,
        vendor=target.vendor,
        backend="vendor",
        precision=numerics.precision,
        payload=payload,
        inputs=inputs,
        outputs=outputs,
        batches=tuple(options.batches),
        files=(),
        model_digest=model.digest,
        preprocessing=replace(how, folded=True) if how and plan["first_conv"] else how,
        passes=model.passes,
        nodes=node_numerics(model.proto, numerics, target.name),
        notes=tuple(notes),
        details={"variants": plan["variants"], "core_version": plan["core_version"], "cores": plan["core_number"]},
    )

"""What the driver knows better than a builder, filled into the manifest."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.artifact import Artifact, Manifest
from accel.artifacts import write_manifest
from accel.jobs import Job
from accel.options import BuildOptions
from accel.plugins import PLUGINS, registry
from accel.progress import message
from accel.versions import versions

if TYPE_CHECKING:
    from accel.calibration import Calibration
    from accel.model import Model
    from accel.toolchain.spec import Environment, Toolchain


def complete(
    made: Artifact,
    model: Model,
    job: Job,
    calibration: Calibration | None,
    toolchain: Toolchain | None,
    environment: Environment | None,
) -> Artifact:
    """Fill in what the driver knows better than a builder, and rewrite the manifest."""
    manifest = made.manifest
    known = {"accel-core": __version__, **versions(["onnx", "onnxruntime", "numpy"])}
    origin = next((o for o in registry().origins(PLUGINS) if o.name == job.target.vendor), None)
    if origin is not None:
        known[origin.package] = origin.version
    if environment is not None and manifest.backend == "vendor":
        known[f"toolchain {environment.toolchain}"] = environment.version
    notes = [*model.notes, *manifest.notes]
    if job.options.backend == "auto" and job.target.toolchain:
        took = _backend_note(manifest, job, toolchain)
        notes.append(took)
        message(f"{job.target.name}: {took}")
    manifest = replace(
        manifest,
        model_digest=model.digest,
        calibration_digest=statistics_digest(calibration) or manifest.calibration_digest,
        preprocessing=manifest.preprocessing or job.options.preprocessing,
        labels=manifest.labels or job.options.labels,
        passes=manifest.passes or model.passes,
        versions={**known, **manifest.versions},
        options={**asked(job.options), **manifest.options},
        notes=tuple(dict.fromkeys(notes)),
        details={**({"metadata": model.metadata} if model.metadata else {}), **manifest.details},
    )
    write_manifest(made.path, manifest)
    return Artifact(made.path, manifest)


def _backend_note(manifest: Manifest, job: Job, toolchain: Toolchain | None) -> str:
    name = job.target.toolchain
    if manifest.backend == "vendor":
        return f"built with the vendor's compiler ({name}); the embedded reference: --backend reference"
    if toolchain is not None and toolchain.kind == "system":
        return f"built with the embedded reference; the vendor's compiler needs its SDK on this machine ({name})"
    return f"built with the embedded reference; for the vendor's compiler: accel toolchain install {name}"


def asked(options: BuildOptions) -> dict[str, str]:
    """The options that differ from their defaults, as strings for the manifest."""
    default, asked = BuildOptions(), {}
    for one in fields(options):
        value = getattr(options, one.name)
        if one.name in ("preprocessing", "labels") or value == getattr(default, one.name):
            continue
        asked[one.name] = _text(value)
    return asked


def _text(value: Any) -> str:
    if hasattr(value, "digest"):
        return str(value.digest)
    if isinstance(value, dict):
        return ",".join(f"{k}={_text(v)}" for k, v in sorted(value.items()))
    if isinstance(value, (tuple, frozenset)):
        return ",".join(str(v) for v in (sorted(value) if isinstance(value, frozenset) else value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def statistics_digest(calibration: Calibration | None) -> str:
    """Over the numbers themselves: two files of the same model and data may hold other statistics."""
    if calibration is None:
        return ""
    digest = hashlib.sha256(repr((calibration.model_digest, calibration.data_digest, calibration.samples)).encode())
    for name, t in calibration.tensors.items():
        digest.update(repr((name, t.low, t.high, t.count, t.nonfinite, t.exponent)).encode())
        for array in (t.negative, t.positive, t.channel_low, t.channel_high):
            digest.update(b"-" if array is None else array.tobytes())
    return digest.hexdigest()

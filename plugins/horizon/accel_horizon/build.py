"""``accel_build``: a model through hmct and hbdk-cc into an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import progress
from accel.artifact import SCHEMA, Artifact, Manifest
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target
from accel.toolchain.spec import Environment

from accel_horizon.inputs import ChipInput, chip_inputs
from accel_horizon.job import Job, run_job, write_samples
from accel_horizon.placement import as_numerics, cpu_costs, not_honoured, places
from accel_horizon.prepare import for_horizon, static_shapes
from accel_horizon.toolchain import HORIZON
from accel_horizon.untuned import restore, untuned_constants
from accel_horizon.wanted import Wanted, wanted

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range


@dataclass(frozen=True)
class Built:
    """One compiled batch size: the job's folder and what the compiler reported."""

    batch: int
    folder: Path
    model: Model
    inputs: Mapping[str, ChipInput]
    result: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """Stem of the compiler's files."""
        return str(self.model.proto.graph.name)

    def path(self, ending: str) -> Path:
        """One of the compiler's files."""
        return self.folder / f"{self.prefix}{ending}"


def build(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None, workspace: Path
) -> Artifact | None:
    """See :meth:`accel.hookspecs.AccelSpec.accel_build`."""
    from accel.artifacts import write_artifact
    from accel.toolchain.find import find, require

    env = find(HORIZON) if options.backend == "auto" else require(HORIZON)
    if env is None:
        return None
    asked = wanted(model, target, options)
    log = workspace / "horizon.log"
    tuned, ranges = thresholds(model, target, options, asked, calibration)
    built = [_one(tuned, target, options, asked, ranges, env, workspace, batch) for batch in options.batches]
    untuned = untuned_constants(model, tuned)
    for one in built:
        restore(one.path(STAGE_FILES["float"]), untuned)
    first = built[0]
    files: dict[str, Path | list[Path]] = _files(built, env, workspace, log)
    found = places(first.model.proto.graph, first.result)
    manifest = Manifest(
        schema=SCHEMA,
        name=model.name,
        target=target.name,
        vendor=target.vendor,
        backend="vendor",
        precision=asked.precision,
        payload="hbm",
        inputs=first.model.inputs,
        outputs=first.model.outputs,
        batches=tuple(options.batches),
        files=(),
        model_digest=model.digest,
        calibration_digest=calibration_digest(calibration, options),
        preprocessing=_preprocessing(options, asked),
        labels=options.labels,
        passes=first.model.passes,
        nodes=as_numerics(found, target.name),
        versions=_versions(first.result),
        options=_options(options, asked),
        notes=tuple(_notes(first, asked, target)),
        details=_details(built, target, asked),
    )
    return write_artifact(workspace / "artifact", manifest, files)


def _one(
    model: Model,
    target: Target,
    options: BuildOptions,
    asked: Wanted,
    ranges: Mapping[str, Range],
    env: Environment,
    workspace: Path,
    batch: int,
) -> Built:
    prepared = for_horizon(model, batch)
    if len(options.batches) > 1:
        prepared.proto.graph.name += f"_b{batch}"
    folder = workspace / f"batch{batch}"
    folder.mkdir()
    inputs = chip_inputs(prepared, options, asked.input_type)
    job = Job(
        model=prepared,
        march=target.arch,
        inputs=inputs,
        wanted=asked,
        calibration=calibration_for(options, asked, ranges, prepared, inputs, folder),
    )
    try:
        result = run_job(env, job, folder, workspace / "horizon.log")
    except AccelError as error:
        if error.code == "failed.compiler-crash":
            from accel_horizon.crash import blame

            raise blame(error, env, job, workspace) from error
        raise
    return Built(batch, folder, prepared, inputs, result)


def thresholds(
    model: Model, target: Target, options: BuildOptions, asked: Wanted, calibration: Calibration | None
) -> tuple[Model, dict[str, Range]]:
    """The tuned model and the kept range of every tensor; both as they are with the vendor's calibrator.

    Raises:
        AccelError: ``usage.calibration`` when there is no calibration.
    """
    if options.calibrator == "vendor":
        return model, {}
    if calibration is None:
        raise AccelError(
            "an integer build needs a calibration",
            code="usage.calibration",
            hints=["Run `accel calibrate` first, or use `accel compile`."],
        )
    from accel.builtin.prepare.tuning import choose_ranges, tune

    numerics = target.numerics_for(asked.precision, options.set)
    bits = 16 if asked.precision == "int16" else 8
    ranges = choose_ranges(model, calibration, options.method, bits=bits)
    return tune(model, numerics, ranges, calibration, options.passes), ranges


def calibration_for(
    options: BuildOptions,
    asked: Wanted,
    ranges: Mapping[str, Range],
    prepared: Model,
    inputs: Mapping[str, ChipInput],
    folder: Path,
) -> dict[str, Any]:
    """The job's ``calibration``: our ranges, or the samples for the vendor's own calibrator.

    Raises:
        AccelError: ``usage.calibration`` when what is needed is not there.
    """
    if options.calibrator == "vendor":
        if options.dataset is None:
            raise AccelError(
                "the vendor's calibrator needs calibration samples",
                code="usage.calibration",
                hints=["Give --data FOLDER."],
            )
        return {
            "kind": "vendor",
            "method": asked.method,
            "per_channel": asked.per_channel,
            "max_percentile": asked.max_percentile,
            "samples": write_samples(options.dataset, inputs, folder),
        }
    from accel.builtin.reference.unsigned import unsigned_tensors

    made: dict[str, Any] = {
        "kind": "accel",
        "method": options.method,
        "unsigned": unsigned_tensors(prepared.proto) if asked.asymmetric else [],
        "bias_correction": asked.bias_correction,
        "ranges": {name: [r.low, r.high] for name, r in ranges.items()},
    }
    if asked.bias_correction:
        if options.dataset is None:
            raise AccelError(
                "bias correction needs calibration samples", code="usage.calibration", hints=["Give --data FOLDER."]
            )
        made["samples"] = write_samples(options.dataset, inputs, folder, limit=8)
    return made


def calibration_digest(calibration: Calibration | None, options: BuildOptions) -> str:
    """The digest of the data that the thresholds come from."""
    if options.calibrator == "vendor":
        return options.dataset.digest if options.dataset is not None else ""
    return calibration.data_digest if calibration is not None else ""


def _files(built: list[Built], env: Environment, workspace: Path, log: Path) -> dict[str, Path | list[Path]]:
    first = built[0]
    if not first.path(".hbm").is_file():
        raise AccelError(
            f"no node of {first.prefix} runs on the BPU",
            code="unsupported.model",
            hints=["`accel check` says why, node by node; --backend reference runs it on the host."],
        )
    files: dict[str, Path | list[Path]] = {}
    if len(built) == 1:
        files["model"], files["bin"] = first.path(".hbm"), first.path(".bin")
    else:
        from accel_horizon.packing import pack

        files["model"] = pack(env, [b.path(".hbm") for b in built], workspace, log)
        files["bin"] = [b.path(".bin") for b in built]
    for role, ending in STAGE_FILES.items():
        files[role] = [b.path(ending) for b in built]
    files["report"] = [p for b in built for p in sorted(b.folder.glob(f"{b.prefix}_subgraph_*.json"))]
    files["report-html"] = [p for b in built for p in sorted(b.folder.glob(f"{b.prefix}_subgraph_*.html"))]
    files["data"] = [p for b in built if (p := b.path("_quant_info.json")).is_file()]
    files["log"] = log
    return files


STAGE_FILES = {
    "float": "_original_float_model.onnx",
    "optimized": "_optimized_float_model.onnx",
    "calibrated": "_calibrated_model.onnx",
    "quantized": "_quantized_model.onnx",
    "host": "_host_model.onnx",
}
"""Files of the stages by role; ``host`` is what stays on the CPU around the ``.hbm``."""


def _preprocessing(options: BuildOptions, asked: Wanted) -> Any:
    from dataclasses import replace

    if options.preprocessing is None or asked.input_type == "featuremap":
        return options.preprocessing
    return replace(options.preprocessing, folded=True)


def _versions(result: Mapping[str, Any]) -> dict[str, str]:
    made = {name: metadata.version(name) for name in ("accel-core", "accel-horizon")}
    return {**made, **{n: str(v) for n, v in result["versions"].items()}}


def _options(options: BuildOptions, asked: Wanted) -> dict[str, str]:
    given = {"flags": asked.flags, "input_type": asked.input_type, "calibrator": options.calibrator}
    if options.calibrator == "vendor":
        given["method"] = asked.method
    else:
        given["method"] = options.method
    return {**given, **options.set}


def _notes(built: Built, asked: Wanted, target: Target) -> list[str]:
    graph = built.model.proto.graph
    found = places(graph, built.result)
    notes = [str(n) for n in built.result["notes"]]
    notes += not_honoured(found, asked.int16_nodes, asked.host_nodes)
    if asked.precision == "int16":
        kept = [p.node for p in found if p.on_chip and p.subgraph and p.precision != "int16"]
        if kept:
            some = ", ".join(kept[:5]) + (", ..." if len(kept) > 5 else "")
            notes.append(f"int16 was asked for all nodes; {len(kept)} of {len(found)} stayed int8: {some}")
    costs = cpu_costs(graph, found, static_shapes(graph))
    for name, cost in costs.items():
        if name in asked.host_nodes or "moves data only" in cost:
            continue
        op = next(p.op_type for p in found if p.node == name)
        notes.append(f"{op} {name} {cost}")
    renamed = {t: s for t, s in built.result["mapping"].items() if t != s}
    if renamed:
        notes.append(f"{len(renamed)} tensors that the compiler renamed got the range of the tensor of equal values")
    for line in notes:
        progress.message(f"{target.name}: {line}")
    return notes


def _details(built: list[Built], target: Target, asked: Wanted) -> dict[str, object]:
    first = built[0]
    return {
        "march": target.arch,
        "inputs": {n: i.as_dict() for n, i in first.inputs.items()},
        "calibration": first.result["calibration"],
        "placement": first.result["placement"],
        "seconds": first.result["seconds"],
        "prefixes": [b.prefix for b in built],
        "stages": ["float", "calibrated", "quantized", "hbm"],
        "asymmetric": asked.asymmetric,
    }

"""accel_build: transform, thresholds, deploy, combine, verify, write the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from accel import progress
from accel.artifact import SCHEMA, Artifact, Manifest, NodeNumerics
from accel.artifacts import write_artifact
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target
from accel.toolchain.find import require
from accel.toolchain.spec import Environment
from accel.versions import versions

from accel_sophon import commands, mlir, table
from accel_sophon.bmodel import combine_batches
from accel_sophon.commands import Bench
from accel_sophon.float_layers import asked, worst_convolutions
from accel_sophon.names import producers, tensor_by_location
from accel_sophon.perf import costs_to_json
from accel_sophon.thresholds import Thresholds, ours, vendors
from accel_sophon.toolchain import SOPHON
from accel_sophon.transforms import Transformed, identifier, to_mlir
from accel_sophon.verify import Verdict, verify

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range

OPSET = 17
"""Highest opset we hand to the compiler."""


@dataclass(frozen=True)
class Compiled:
    """One batch size, compiled.

    Attributes:
        batch: Samples a run.
        model: The network at this batch.
        folder: Working directory.
        bmodel: The compiled file.
        lowered: The lowered graph, for the fast simulator.
        float_mlir: The graph before lowering.
        renamed: New tensor names by the model's.
        verdict: What the comparison with float found.
    """

    batch: int
    model: Model
    folder: Path
    bmodel: Path
    lowered: Path
    float_mlir: Path
    renamed: Mapping[str, str]
    tensors: Mapping[str, str]
    verdict: Verdict | None
    thresholds: Thresholds | None


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
    notes = _refuse_and_note(target, options)
    if options.set.get("float_layers") and target.numerics_for(options.precision).quantized:
        chosen = worst_convolutions(model, target.numerics_for(options.precision), asked(options.set["float_layers"]))
        options = replace(options, node_precisions={**chosen, **options.node_precisions})
        notes.append(f"kept in fp32 by --set float_layers: {', '.join(chosen)}")
    network, kept = _tuned(model, target, options, calibration)
    network = readable(network)
    done = []
    for batch in options.batches:
        folder = workspace / f"batch{batch}"
        folder.mkdir()
        with progress.step(f"compiling for {target.name}, batch {batch}") as step:
            bench = Bench(env, folder, log, _progress(step.at))
            done.append(_compile(bench, network, batch, target, options, calibration, kept))
    name = identifier(model.name)
    directory = workspace / "artifact"
    directory.mkdir()
    bmodel = directory / f"{name}.bmodel"
    if len(done) == 1:
        shutil.copyfile(done[0].bmodel, bmodel)
    else:
        combine_batches(Bench(env, workspace, log), [(c.batch, c.bmodel) for c in done], bmodel, chip=target.arch)
    files = _collect(directory, done, bmodel, log)
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
        preprocessing=options.preprocessing,
        passes=network.passes,
        nodes=nodes_of(first, target),
        versions={**versions(["accel-core", "accel-sophon"]), "tpu_mlir": env.version},
        options={"method": options.method, "calibrator": options.calibrator, "opt": str(options.opt or "")},
        notes=tuple(dict.fromkeys(notes)),
        details=_details(done, target),
    )
    return write_artifact(directory, manifest, files)


def _tuned(
    model: Model, target: Target, options: BuildOptions, calibration: Calibration | None
) -> tuple[Model, Mapping[str, Range]]:
    """Our thresholds, and the model with the tuning passes for this chip's arithmetic."""
    from accel.builtin.prepare.tuning import choose_ranges, tune
    from accel.builtin.reference.build import node_numerics

    numerics = target.numerics_for(options.precision)
    if not numerics.quantized or calibration is None or options.calibrator == "vendor":
        return model, {}
    kept = choose_ranges(model, calibration, options.method)
    overrides = node_numerics(target, options.node_precisions)
    return tune(model, numerics, kept, calibration, options.passes, node_numerics=overrides), kept


def readable(model: Model) -> Model:
    """The model at an opset that the compiler reads."""
    found = max((i.version for i in model.proto.opset_import if i.domain in ("", "ai.onnx")), default=0)
    if found <= OPSET:
        return model
    from importlib import import_module

    made: Model = import_module("accel.builtin.prepare.opset").lower(model, OPSET)
    return made


def _compile(
    bench: Bench,
    network: Model,
    batch: int,
    target: Target,
    options: BuildOptions,
    calibration: Calibration | None,
    kept: Mapping[str, Range],
) -> Compiled:
    from accel.builtin.prepare.batch import set_batch

    numerics = target.numerics_for(options.precision)
    model = set_batch(network, batch)
    _refuse_free(model)
    made = to_mlir(bench, model)
    module = mlir.read(made.mlir)
    tensors = _tensors(module, model, made)
    thresholds = None
    if numerics.quantized:
        if options.calibrator == "vendor":
            thresholds = vendors(bench, made.mlir, model, target, options)
        else:
            assert calibration is not None  # the driver has seen to it
            note = f"{options.method} over {calibration.samples} samples"
            thresholds = ours(bench, module, tensors, kept, note)
    precisions = _precisions(bench, module, tensors, model, options, target, thresholds)
    bmodel = bench.folder / f"{identifier(model.name)}_{target.arch}.bmodel"
    commands.deploy(
        bench,
        made.mlir,
        bmodel,
        chip=target.arch,
        mode=table.MODES[numerics.precision],
        calibration=thresholds.table if thresholds else None,
        precisions=precisions,
        extra=_extra(target, options),
    )
    lowered = commands.lowered(bench)
    verdict = None
    if options.set.get("verify", "yes") != "no":
        with progress.step("comparing with float"):
            verdict = verify(bench, model, made, tensors, lowered, bmodel, target, calibration, options)
    return Compiled(batch, model, bench.folder, bmodel, lowered, made.mlir, made.renamed, tensors, verdict, thresholds)


def _tensors(module: mlir.Module, model: Model, made: Transformed) -> dict[str, str]:
    back = {new: old for old, new in made.renamed.items()}
    known = {made.renamed.get(name, name): op for name, op in producers(model.proto).items()}
    places = [name for op in module.values() for name in op.names]
    return {place: back.get(tensor, tensor) for place, tensor in tensor_by_location(places, known).items()}


def _precisions(
    bench: Bench,
    module: mlir.Module,
    tensors: Mapping[str, str],
    model: Model,
    options: BuildOptions,
    target: Target,
    thresholds: Thresholds | None,
) -> Path | None:
    wanted = {n: target.numerics_for(p).precision for n, p in options.node_precisions.items()}
    outputs = _stored_outputs(model, set(tensors.values()))
    if thresholds and options.calibrator != "vendor":
        wanted = {**_without_integer_form(target, options, model, outputs, set(tensors.values())), **wanted}
    if not wanted:
        return thresholds.precisions if thresholds else None
    path = bench.folder / "quantize_table"
    table.write_precisions(path, table.locations_of_nodes(module, tensors, outputs, wanted))
    if thresholds and thresholds.precisions:
        with path.open("a", encoding="utf-8") as file:
            file.write(thresholds.precisions.read_text(encoding="utf-8"))
    return path


def _without_integer_form(
    target: Target, options: BuildOptions, model: Model, outputs: Mapping[str, tuple[str, ...]], stored: set[str]
) -> dict[str, str]:
    """``fp32`` for the nodes that the chip's numerics compute in float: left to itself, the compiler makes integers of
    some of them that the chip then computes differently (powers, roots and quotients on BM1684)."""
    numerics = target.numerics_for(options.precision)
    if "fp32" not in target.numerics:
        return {}
    return {
        node.name: "fp32"
        for node in model.proto.graph.node
        if node.op_type not in numerics.quantized_ops and any(o in stored for o in outputs[node.name])
    }


def _stored_outputs(model: Model, stored: set[str]) -> dict[str, tuple[str, ...]]:
    """Output tensors by node; those of the activation behind it for a node that the compiler fuses with one."""
    graph = model.proto.graph
    readers: dict[str, list[tuple[str, ...]]] = {}
    for node in graph.node:
        if node.op_type in ("Relu", "Clip"):
            readers.setdefault(node.input[0], []).append(tuple(node.output))
    found = {}
    for node in graph.node:
        own = tuple(node.output)
        behind = readers.get(node.output[0], [])
        found[node.name] = behind[0] if own[0] not in stored and len(behind) == 1 else own
    return found


def _extra(target: Target, options: BuildOptions) -> list[str]:
    extra = []
    if "input" in options.int_io:
        extra.append("--quant_input")
    if "output" in options.int_io:
        extra.append("--quant_output")
    if options.opt is not None:
        extra += ["--opt", str(options.opt)]
    cores = options.cores or target.cores[0]
    if cores > 1:
        extra += ["--num_core", str(cores)]
    if options.dynamic:
        extra.append("--dynamic")
    return extra


def _refuse_and_note(target: Target, options: BuildOptions) -> list[str]:
    """What the chip cannot do, before anything runs; what it will not honour, as notes."""
    if options.opt is not None and options.opt not in (1, 2, 3):
        raise AccelError(f"the compiler has no level {options.opt}", code="usage.opt", hints=["Use --opt 1 or 2."])
    if options.opt == 3 and target.arch == "bm1684":
        raise AccelError("--opt 3 crashes the compiler for bm1684", code="unsupported.opt", hints=["Use --opt 2."])
    cores = options.cores or target.cores[0]
    if cores not in target.cores:
        raise AccelError(
            f"{target.name} cannot be built for {cores} cores",
            code="unsupported.cores",
            hints=[f"It has: {', '.join(map(str, target.cores))}."],
        )
    if options.int_io and not target.numerics_for(options.precision).quantized:
        raise AccelError("quantised input or output needs a quantised precision", code="usage.int-io")
    notes = []
    if options.dynamic and target.numerics_for(options.precision).quantized and target.arch == "bm1684":
        notes.append("dynamic shapes: the compiler's INT8 results differ from the static ones on this chip")
    return notes


def _refuse_free(model: Model) -> None:
    for spec in model.inputs:
        free = [d for d in spec.shape if not isinstance(d, int)]
        if free:
            raise AccelError(
                f"input {spec.name!r} has free dimensions: {', '.join(map(str, free))}",
                code="usage.shape",
                hints=[f"Fix them: --input-shape {spec.name}=1,3,224,224"],
            )


def nodes_of(compiled: Compiled, target: Target) -> tuple[NodeNumerics, ...]:
    """What each node of the graph became, read off the lowered graph."""
    found = mlir.read(compiled.lowered)
    place_of = {tensor: place for place, tensor in compiled.tensors.items()}
    wanted = target.numerics
    nodes = []
    for node in compiled.model.proto.graph.node:
        places = [place_of[o] for o in node.output if o in place_of]
        op = next((found.by_name[p] for p in places if p in found.by_name), None)
        if op is None:
            nodes.append(NodeNumerics(node.name, node.op_type, "", target.name, "fused into its neighbour"))
            continue
        note = "" if op.precision in wanted else f"stored as {op.precision}"
        nodes.append(NodeNumerics(node.name, node.op_type, op.precision, target.name, note))
    return tuple(nodes)


def _details(done: list[Compiled], target: Target) -> dict[str, object]:
    simulators = {}
    for compiled in done:
        module = mlir.read(compiled.lowered)
        inputs = [op.name for op in module.ops if op.kind == "top.Input"]
        layers = {tensor: place for place, tensor in compiled.tensors.items() if place in module.by_name}
        simulators[str(compiled.batch)] = {
            "mlir": f"simulator/batch{compiled.batch}/{compiled.lowered.name}",
            "inputs": inputs,
            "layers": layers,
            "renamed": dict(compiled.renamed),
        }
    return {"arch": target.arch, "simulators": simulators, "costs": costs_to_json(done[0].model)}


def _collect(directory: Path, done: list[Compiled], bmodel: Path, log: Path) -> dict[str, list[Path]]:
    """Copy what the artifact keeps; paths by role."""
    files: dict[str, list[Path]] = {"model": [bmodel], "data": [], "report": [], "log": []}
    for compiled in done:
        place = directory / "simulator" / f"batch{compiled.batch}"
        place.mkdir(parents=True)
        weights = mlir.read(compiled.lowered).weight_file
        for source in (compiled.lowered, compiled.folder / weights):
            files["data"].append(_copy(source, place / source.name))
        if compiled.thresholds:
            files["data"].append(_copy(compiled.thresholds.table, place / "calibration_table"))
        for profile in sorted(compiled.folder.glob("*compiler_profile_*.txt")):
            files["report"].append(_copy(profile, directory / "profile" / f"batch{compiled.batch}" / profile.name))
        if compiled.verdict and compiled.verdict.reference:
            # bmrt_test --context_dir wants a directory with exactly these names.
            context = directory / "bmrt_test" / f"batch{compiled.batch}"
            files["data"].append(_copy(compiled.bmodel, context / "compilation.bmodel"))
            for label, data in compiled.verdict.reference.items():
                (context / label).write_bytes(data)
                files["data"].append(context / label)
    files["log"].append(_copy(log, directory / "compile.log"))
    return {role: paths for role, paths in files.items() if paths}


def _copy(source: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    return place


def _progress(at: Callable[..., None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if line.startswith(("[Running]", "tpuc-opt", "[CMD]")):
            at(0, note=line[:60])

    return on_line


def _log_name(model: Model, target: Target) -> str:
    moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    return f"sophon-{identifier(model.name)}-{target.name}-{moment}.log"

"""One batch size through the compiler: transform, thresholds, precisions, deploy, verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel import progress
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target

from accel_sophon import commands, mlir, table
from accel_sophon.caffe import read_caffe
from accel_sophon.commands import Bench
from accel_sophon.names import producers, tensor_by_location
from accel_sophon.pixels import fuse_arguments, fused, normalised, pixels_of, takes_pixels
from accel_sophon.refusals import refuse_free
from accel_sophon.rewrites import wrong_convolutions, wrong_places
from accel_sophon.thresholds import Thresholds, ours, vendors
from accel_sophon.transforms import Transformed, identifier, to_mlir
from accel_sophon.verify import DiffersError, Verdict, sample, verify

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range


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


def compile_batch(
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
    ours_calibrates = options.calibrator != "vendor"
    model = set_batch(network, batch)
    refuse_free(model)
    feeds = fed = sample(model, calibration, options)
    fusing: dict[str, str] = {}
    if takes_pixels(options) and options.preprocessing is not None:
        fed = pixels_of(feeds, options.preprocessing)
        feeds = normalised(fed, options.preprocessing) if fused(options) else fed
        fusing = fuse_arguments(model, options.preprocessing) if fused(options) else {}
    if model.vendor_reads:
        made, tensors = read_caffe(bench, model, feeds, fusing, every_value=numerics.quantized and ours_calibrates)
        module = mlir.read(made.mlir)
    else:
        made = to_mlir(bench, model, preprocessing=fusing)
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
    renamed = dict(made.renamed)
    if fused(options):
        name = model.inputs[0].name
        renamed[name] = f"{renamed.get(name, name)}_raw"

    def deployed(*more: str) -> tuple[Path, Verdict | None]:
        commands.deploy(
            bench,
            made.mlir,
            bmodel,
            chip=target.arch,
            mode=table.MODES[numerics.precision],
            calibration=thresholds.table if thresholds else None,
            precisions=precisions,
            extra=[*deploy_flags(target, options), *more],
        )
        lowered = commands.lowered(bench)
        if options.set.get("verify", "yes") == "no":
            return lowered, None
        with progress.step("comparing with float"):
            chip_inputs = (fed, renamed)
            return lowered, verify(bench, feeds, chip_inputs, made, tensors, lowered, bmodel, target, options)

    try:
        lowered, verdict = deployed()
    except DiffersError:
        # Seen on BM1684 with convolutions in float between those in INT8: fused into groups of layers, which keep
        # values on the chip, they compute something else. Layer by layer they are right.
        progress.message("the bmodel differs from its lowered graph: compiling again without layer groups")
        lowered, verdict = deployed("--disable_layer_group")
        assert verdict is not None
        note = "compiled without layer groups, which is slower: with them the bmodel computes something else"
        verdict = replace(verdict, notes=[note, *verdict.notes])
    return Compiled(batch, model, bench.folder, bmodel, lowered, made.mlir, renamed, tensors, verdict, thresholds)


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
    if model.vendor_reads and thresholds:
        # The file goes in unchanged, so what the compiler gets wrong cannot be rewritten: it stays in float.
        wrong = wrong_convolutions(model, target, target.numerics_for(options.precision))
        wanted = {**dict.fromkeys(wrong, "fp32"), **wanted}
    places = table.locations_of_nodes(module, tensors, outputs, wanted)
    if thresholds:
        wrong_here = wrong_places(module, target, target.numerics_for(options.precision))
        places = {**dict.fromkeys(wrong_here, "fp32"), **places}
    if not places:
        return thresholds.precisions if thresholds else None
    path = bench.folder / "quantize_table"
    table.write_precisions(path, places)
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


def deploy_flags(target: Target, options: BuildOptions) -> list[str]:
    """Options of ``model_deploy`` that the build's options mean."""
    extra = []
    if "input" in options.int_io:
        extra.append("--quant_input")
    if "output" in options.int_io:
        extra.append("--quant_output")
    if options.opt is not None:
        extra += ["--opt", str(options.opt)]
    if fused(options):
        extra.append("--fuse_preprocess")
    cores = options.cores or target.cores[0]
    if cores > 1:
        extra += ["--num_core", str(cores)]
    if options.dynamic:
        extra.append("--dynamic")
    return extra

"""What an artifact holds beside the bmodel: what became of each node, simulators, reference data, profiles."""

from __future__ import annotations

import shutil
from pathlib import Path

from accel.artifact import NodeNumerics
from accel.target import Target

from accel_sophon import mlir
from accel_sophon.compiling import Compiled
from accel_sophon.perf import costs_to_json


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
        if op.kind == "tpu.GenericCpu":
            note = "the device's runtime computes it on its CPU"
            nodes.append(NodeNumerics(node.name, node.op_type, op.precision, "host", note))
            continue
        note = "" if op.precision in wanted else f"stored as {op.precision}"
        nodes.append(NodeNumerics(node.name, node.op_type, op.precision, target.name, note))
    return tuple(nodes)


def details(done: list[Compiled], target: Target) -> dict[str, object]:
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


def collect(directory: Path, done: list[Compiled], bmodel: Path, log: Path) -> dict[str, list[Path]]:
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

"""Predicted speed: the roofline of a network on a card, from published peaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from accel.artifact import Artifact
from accel.builtin.roofline import Costs, Machine, NodeCost, Prediction, predict
from accel.errors import AccelError
from accel.report import Metric, Report, Table
from accel.target import Numerics, Target

FLOAT_BYTES = {"fp32": 4.0, "fp16": 2.0}
"""Bytes of a stored float."""
COSTS = "costs"
"""Key of the costs in a manifest's details: the reference's own graph is not the network's."""


def machine(target: Target, numerics: Numerics, clusters: int) -> Machine:
    """The card as the roofline sees it, with ``clusters`` of its clusters in use.

    Whole samples go to clusters: a batch of ``b`` takes ``ceil(b / clusters)`` rounds. This is inferred: in the public
    tables one batch takes the same time until there are more samples than clusters.

    Raises:
        AccelError: ``unsupported.perf`` when the peak or the bandwidth is not published.
    """
    kind = f"int{numerics.activation.bits}" if numerics.activation else numerics.float_type
    peak = target.peaks.get(kind)
    if peak is None or target.dram_bandwidth is None:
        missing = "memory bandwidth" if peak else f"{kind} peak"
        raise AccelError(
            f"no prediction for {target.name} {numerics.precision}",
            code="unsupported.perf",
            cause=f"the {missing} of this chip is not published",
        )
    whole = max(target.cores)
    part = clusters / whole
    on_chip = target.on_chip_bytes.value / whole if target.on_chip_bytes else 0
    return Machine(peak.value * part, target.dram_bandwidth.value, int(on_chip), clusters)


def network(costs: Costs, target: Target, numerics: Numerics, batch: int, clusters: int) -> Prediction:
    """The least time of one batch."""
    weight = numerics.weight.bits / 8 if numerics.weight else FLOAT_BYTES[numerics.float_type]
    return predict(
        costs,
        machine(target, numerics, clusters),
        batch=batch,
        weight_bytes=weight,
        activation_bytes=FLOAT_BYTES[numerics.float_type],
    )


def costs_to_json(costs: Costs) -> dict[str, Any]:
    """For a manifest's details."""
    return asdict(costs)


def costs_from_json(held: Mapping[str, Any]) -> Costs:
    """What :func:`costs_to_json` wrote.

    Raises:
        AccelError: ``artifact.unreadable``.
    """
    try:
        nodes = tuple(
            NodeCost(
                str(n["node"]),
                str(n["op_type"]),
                int(n["macs"]),
                int(n["weights"]),
                tuple(map(int, n["reads"])),
                tuple(map(int, n["writes"])),
            )
            for n in held["nodes"]
        )
        return Costs(nodes, int(held["batch"]), tuple(map(str, held["unknown"])))
    except (KeyError, TypeError, ValueError) as error:
        raise AccelError("the artifact's costs cannot be read", code="artifact.unreadable", cause=str(error)) from error


def report(artifact: Artifact, target: Target, batches: Sequence[int]) -> Report:
    """The roofline of an artifact, layer by layer."""
    manifest = artifact.manifest
    held = manifest.details.get(COSTS)
    if not isinstance(held, Mapping):
        raise AccelError("the artifact holds no costs", code="unsupported.perf", hints=["Build it again."])
    costs = costs_from_json(held)
    numerics = target.numerics_for(manifest.precision)
    clusters = int(manifest.options.get("cores", "") or target.cores[0])
    kind = f"int{numerics.activation.bits}" if numerics.activation else numerics.float_type
    sources = f"roofline: {target.peaks[kind].source}" if kind in target.peaks else "roofline"
    metrics = [Metric("macs", costs.macs // costs.batch, "", "predicted", "counted from the network's shapes")]
    tables = []
    for batch in batches:
        found = network(costs, target, numerics, batch, clusters)
        metrics.append(Metric(f"throughput b{batch}", found.samples_per_second, "FPS", "predicted", sources))
        metrics.append(Metric(f"latency b{batch}", found.seconds * 1e3, "ms", "predicted", sources))
        rows = tuple(
            (layer.node, layer.op_type, layer.macs, layer.bytes, round(layer.seconds * 1e6, 3), layer.bound)
            for layer in found.layers
            if layer.bound != "none"
        )
        tables.append(Table(f"layers at batch {batch}", ("node", "op", "MACs", "bytes", "us", "bound by"), rows))
    notes = (
        "An upper bound of the speed: launch times, layout changes and vector operators are not in it.",
        "Whole samples go to clusters (inferred from public tables); docs/mlu.md holds it against published figures.",
        *(f"not counted: {u}" for u in costs.unknown),
    )
    subject = {"target": target.name, "precision": manifest.precision, "clusters": str(clusters)}
    command = f"accel perf {artifact.path}"
    return Report(f"{target.name} roofline", tuple(metrics), tuple(tables), notes, (command,), subject)

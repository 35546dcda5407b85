"""MLU370's roofline against Cambricon's published throughput: ``python benchmarks/mlu.py``.

The published figures were measured with ``mm_run --threads 1`` on one card (public MagicMind repository, older table,
since withdrawn by the vendor). Nothing is fitted to them. Two predictions stand side by side: ``whole`` lets the
whole card work on every sample; ``clusters`` gives whole samples to clusters, ``ceil(batch / clusters)`` rounds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from accel.builtin.roofline import Costs, count, predict
from accel.plugins import Registry
from accel_mlu import perf
from mlu_networks import centernet, mobilenet_ssd, resnet50

PUBLISHED = {
    "ResNet50": {
        ("mlu370-s4", "fp32"): (193.47, 640.334, 786.004),
        ("mlu370-s4", "fp16"): (587.342, 1947.97, 2404.88),
        ("mlu370-s4", "int8"): (1125.71, 4189.73, 5782.66),
        ("mlu370-x4", "fp32"): (194.266, 590.223, 1026.66),
        ("mlu370-x4", "fp16"): (573.044, 1762.06, 3253.08),
        ("mlu370-x4", "int8"): (1267.76, 3747.53, 6966.43),
    },
    "SSD VOC": {("mlu370-s4", "int8"): (517.0, 1727.0, 2274.0)},
    "CenterNet": {
        ("mlu370-s4", "fp32"): (38.3222, 101.571, 96.5939),
        ("mlu370-s4", "fp16"): (115.252, 318.38, 316.23),
        ("mlu370-s4", "int8"): (219.13, 759.791, 812.749),
        ("mlu370-x4", "fp32"): (39.2093, 139.214, 242.72),
        ("mlu370-x4", "fp16"): (115.84, 409.408, 737.179),
        ("mlu370-x4", "int8"): (227.525, 740.679, 1285.24),
    },
}
"""Samples a second at batch 1, 4 and 8."""
BATCHES = (1, 4, 8)


@dataclass(frozen=True)
class Line:
    """One published figure and both predictions, in samples a second."""

    network: str
    card: str
    precision: str
    batch: int
    published: float
    whole: float
    clusters: float


def lines() -> Iterator[Line]:
    """Every published figure."""
    registry = Registry()
    networks: dict[str, Costs] = {m.name: count(m) for m in (resnet50(), mobilenet_ssd(), centernet())}
    for network, tables in PUBLISHED.items():
        for (card, precision), figures in tables.items():
            target = registry.target(card)
            numerics = target.numerics_for(precision)
            by_units = perf.machine(target, numerics, target.cores[0])
            whole_card = replace(by_units, units=1, on_chip_bytes=by_units.on_chip_bytes * by_units.units)
            weight = numerics.weight.bits / 8 if numerics.weight else perf.FLOAT_BYTES[numerics.float_type]
            for batch, published in zip(BATCHES, figures, strict=True):
                costs = networks[network]
                by_cluster = perf.network(costs, target, numerics, batch, target.cores[0])
                whole = predict(
                    costs,
                    whole_card,
                    batch=batch,
                    weight_bytes=weight,
                    activation_bytes=perf.FLOAT_BYTES[numerics.float_type],
                )
                yield Line(
                    network, card, precision, batch, published, whole.samples_per_second, by_cluster.samples_per_second
                )


def main() -> int:
    """Print the table and the spread of the errors."""
    found = list(lines())
    print("| network | card | precision | batch | published | clusters | ratio | whole | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in found:
        print(
            f"| {one.network} | {one.card} | {one.precision} | {one.batch} | {one.published:.0f} "
            f"| {one.clusters:.0f} | {one.clusters / one.published:.2f} "
            f"| {one.whole:.0f} | {one.whole / one.published:.2f} |"
        )
    for name in ("clusters", "whole"):
        ratios = sorted(getattr(one, name) / one.published for one in found)
        middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"\n{name}: predicted / published {ratios[0]:.2f} to {ratios[-1]:.2f}, geometric mean {middle:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

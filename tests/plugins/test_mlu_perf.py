"""The roofline of MLU cards: counts of known networks, published figures as a bound, reports through the hook."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
from accel import driver
from accel.builtin.roofline import count
from accel.errors import AccelError
from accel.options import BuildOptions, RunOptions
from accel.plugins import Registry
from accel_mlu import perf
from support.networks import residual_net

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, BENCHMARKS)
    try:
        yield importlib.import_module("mlu")
    finally:
        sys.path.remove(BENCHMARKS)


@pytest.mark.parametrize(
    ("name", "macs", "weights"),
    [("resnet50", 3.858e9, 25.50e6), ("mobilenet_ssd", 1.148e9, 5.77e6), ("centernet", 31.05e9, 17.90e6)],
)
def test_known_networks_are_counted(benchmark, name, macs, weights) -> None:
    costs = count(getattr(importlib.import_module("mlu_networks"), name)())
    assert costs.macs == pytest.approx(macs, rel=1e-3)
    assert costs.weights == pytest.approx(weights, rel=1e-3)
    assert costs.unknown == ()


def test_no_published_figure_beats_the_roofline(benchmark) -> None:
    """A roofline is a bound: a prediction below what was measured would be wrong."""
    found = list(benchmark.lines())
    assert len(found) == 39
    assert all(line.clusters >= line.published for line in found)
    # Without the detector whose post-processing is not counted, the bound is within a factor of five.
    ratios = [line.clusters / line.published for line in found if line.network != "SSD VOC"]
    assert max(ratios) < 5
    assert 2 < math.exp(sum(map(math.log, ratios)) / len(ratios)) < 3


def test_more_clusters_help_only_batches(benchmark) -> None:
    costs = count(importlib.import_module("mlu_networks").centernet())
    target = Registry().target("mlu370-x4")
    numerics = target.numerics_for("int8")
    speed = {(b, c): perf.network(costs, target, numerics, b, c).samples_per_second for b in (1, 8) for c in (2, 8)}
    assert speed[1, 8] == pytest.approx(speed[1, 2])
    assert speed[8, 8] > 3.5 * speed[8, 2]


@pytest.mark.parametrize(("chip", "missing"), [("mlu590", "peak"), ("mlu220", "bandwidth"), ("ce3226", "peak")])
def test_unpublished_figures_are_named(chip, missing) -> None:
    target = Registry().target(chip)
    with pytest.raises(AccelError, match="no prediction") as caught:
        perf.machine(target, target.numerics_for("int8"), target.cores[0])
    assert missing in caught.value.cause


def test_perf_of_a_reference_artifact_is_predicted_layer_by_layer(tmp_path) -> None:
    net, _ = residual_net()
    made = driver.build(net, "mlu370-s4", tmp_path / "out", BuildOptions(precision="fp16", backend="reference"))
    report = driver.perf(made, RunOptions())
    assert report.metric("throughput b1").provenance == "predicted"
    assert "MLU370-S4" in report.metric("throughput b1").source
    assert report.metric("macs").value == count(driver.prepare(net)).macs
    assert len(report.tables[0].rows) >= 4
    eight = driver.perf(made, RunOptions(batch=8))
    assert eight.metric("throughput b8").value > report.metric("throughput b1").value


def test_costs_survive_the_manifest() -> None:
    costs = count(residual_net()[0])
    assert perf.costs_from_json(perf.costs_to_json(costs)) == costs
    with pytest.raises(AccelError, match="costs"):
        perf.costs_from_json({"nodes": [{}], "batch": 1, "unknown": []})

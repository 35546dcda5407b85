"""The reference's int8 throughput against plain float ONNX Runtime: ``python benchmarks/reference_speed.py``.

Both run the same prepared graph on the same inputs in turns on one thread, so that the machine's noise meets both.
Bar: at least 0.5 of float's throughput at batch 1 for int8 codes with one multiplication a channel, by CPU time (that
of the fastest runs stands beside it). Chips whose arithmetic takes more steps pay for it and are shown.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
from accel.builtin.calibrators.collector import collect
from accel.builtin.prepare.tuning import choose_ranges
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import session
from accel.options import CalibrateOptions
from accel.plugins import Registry
from accuracy import NUMERICS, case

BAR = 0.5
CHIPS = ("bm1684", "bm1684x", "j5", "mlu370-s4")
ROUNDS = 40


def timed(runs: list[Callable[[], object]]) -> tuple[list[float], list[float]]:
    """Fastest wall seconds and all CPU seconds of each, run in turns."""
    best, cpu = [float("inf")] * len(runs), [0.0] * len(runs)
    for _ in range(ROUNDS):
        for at, run in enumerate(runs):
            wall, used = time.perf_counter(), time.process_time()
            run()
            best[at] = min(best[at], time.perf_counter() - wall)
            cpu[at] += time.process_time() - used
    return best, cpu


def main() -> int:
    worst = 1.0
    chips = Registry()
    chosen = {**NUMERICS, **{name: chips.target(name).numerics_for("int8") for name in chips.targets if name in CHIPS}}
    with tempfile.TemporaryDirectory() as name:
        for network in ("efficientnet-lite0", "mobilenet-v2"):
            found = case(network, Path(name))
            ranges = choose_ranges(
                found.model, collect(found.model, found.calibration, CalibrateOptions(samples=4)), "auto"
            )
            feeds = {"input": found.evaluation[0]}
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            plain = onnxruntime.InferenceSession(
                found.model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            for what, numerics in chosen.items():
                made = session(quantize(found.model, numerics, ranges).proto.SerializeToString(), 1)
                best, cpu = timed([lambda s=s, feeds=feeds: s.run(None, feeds) for s in (plain, made)])
                wall_ratio, cpu_ratio = best[0] / best[1], cpu[0] / cpu[1]
                print(f"{network:20s} {what:32s} CPU ratio {cpu_ratio:.2f}  fastest {wall_ratio:.2f}", flush=True)
                if numerics in NUMERICS.values() and numerics.requantize == "float" and numerics.dataflow == "stored":
                    worst = min(worst, cpu_ratio)
    print(f"worst ratio of stored int8: {worst:.2f}, bar {BAR}")
    return 0 if worst >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())

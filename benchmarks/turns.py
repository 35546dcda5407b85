"""Timing several things side by side: in turns, so that the machine's noise meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def cpu_in_turns(runs: Sequence[Callable[[], object]], rounds: int = 60) -> list[float]:
    """Median CPU seconds of one call of each; they alternate, and the first call of each is not counted."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for times, run in zip(spent, runs, strict=True):
            begun = time.process_time()
            run()
            times.append(time.process_time() - begun)
    return [sorted(times[1:])[rounds // 2] for times in spent]


def plain_session(model: bytes) -> Any:
    """ONNX Runtime as it comes, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

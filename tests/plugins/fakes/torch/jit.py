"""Tracing: only of a quantised network on the MLU device, as the two-step flow does it."""

from __future__ import annotations

from typing import Any

import torch_mlu.core.mlu_model as ct


def trace(net: Any, examples: tuple[Any, ...], check_trace: bool = True) -> Any:
    if check_trace:
        raise AssertionError("check_trace must be False on the MLU device")
    if net.device != "mlu" or any(e.device != "mlu" for e in examples):
        raise AssertionError("trace wants the network and its inputs on the MLU device")
    ct.traced()

    def run(*inputs: Any) -> Any:
        outputs = net(*inputs)
        ct.saved([i.array for i in inputs], [outputs.array])
        return outputs

    return run

"""Functions, by way of ONNX's reference evaluator where they are more than a line."""

from __future__ import annotations

from typing import Any

import numpy as np


def relu(x: Any) -> Any:
    return x.like(np.maximum(x.array, 0))


def hardtanh(x: Any, low: float, high: float) -> Any:
    return x.like(np.clip(x.array, low, high))


def adaptive_avg_pool2d(x: Any, size: tuple[int, int]) -> Any:
    assert size == (1, 1)
    return x.like(x.array.mean(axis=(2, 3), keepdims=True))


def max_pool2d(x: Any, kernel_size: Any, stride: Any, padding: Any) -> Any:
    return x.like(_windows(x.array, kernel_size, stride, padding, -np.inf).max(axis=(-2, -1)))


def avg_pool2d(x: Any, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool) -> Any:
    windows = _windows(x.array, kernel_size, stride, padding, 0.0)
    if count_include_pad:
        return x.like(windows.mean(axis=(-2, -1)))
    counted = _windows(np.ones_like(x.array), kernel_size, stride, padding, 0.0)
    return x.like(windows.sum(axis=(-2, -1)) / counted.sum(axis=(-2, -1)))


def interpolate(x: Any, scale_factor: Any, mode: str) -> Any:
    assert mode == "nearest"
    return x.like(x.array.repeat(int(scale_factor[0]), axis=2).repeat(int(scale_factor[1]), axis=3))


def _windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, fill: float) -> np.ndarray:
    top, left = padding
    x = np.pad(x, [(0, 0), (0, 0), (top, top), (left, left)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]

"""Do two graphs compute the same? Run both on seeded random inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from accel.model import TensorSpec, io_specs


def random_inputs(inputs: tuple[TensorSpec, ...], *, batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs: normal numbers for floats, 0 or 1 for the rest; free dimensions are ``batch``."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in inputs:
        shape = [d if isinstance(d, int) else batch for d in spec.shape]
        dtype = np.dtype(spec.dtype)
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[spec.name] = np.asarray(values).astype(dtype)
    return feeds


def run(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs on ONNX Runtime, in float and without fusions that change the numbers."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return list(session.run(None, {n: v for n, v in feeds.items() if n in names}))


def difference(before: onnx.ModelProto, after: onnx.ModelProto, *, batch: int = 1, seed: int = 0) -> float:
    """Largest difference of any output, relative to that output's largest magnitude (or 1e-6).

    Infinite when shapes or non-finite values differ. Inputs are matched by name, outputs by position.
    """
    feeds = random_inputs(io_specs(before)[0], batch=batch, seed=seed)
    return max(
        (relative(a, b) for a, b in zip(run(before, feeds), run(after, feeds), strict=True)),
        default=0.0,
    )


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of two arrays over the first one's largest magnitude."""
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind not in "fc":
        return 0.0 if np.array_equal(a, b) else float("inf")
    if not a.size:
        return 0.0
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(a[finite]).max()), 1e-6)
    return float(np.abs(a[finite].astype(np.float64) - b[finite]).max()) / scale

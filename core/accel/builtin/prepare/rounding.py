"""Rounding of weights whose errors cancel: neighbouring values of a picture are alike, so errors of neighbouring taps
that sum to nothing do nothing.

Rounding every weight to its nearest code is the best there is for inputs that have nothing to do with each other. What
a convolution with a kernel reads are neighbours: their correlation is high and known beforehand, so the rounding
that leaves the least error in the result follows from the weights alone (the quadratic objective is that of
M. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020, equation 11, with the
correlation assumed instead of measured). It matters most where one step serves the whole tensor and a channel of small
weights has a few codes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from accel.builtin.prepare import graph as g

if TYPE_CHECKING:
    from accel.builtin.reference.schemes import Grid
    from accel.calibration import Range
    from accel.model import Model
    from accel.target import Numerics

PASS = "round_weights"

ALIKE = 0.9
"""Correlation of values one pixel apart, and of the colours of a pixel. Measured on photos: 0.8 serves as well."""

MARGIN = 0.3
"""The largest code is kept this much (in codes) below itself: a compiler that chooses a shift by the largest weight
must not find it beyond the last code by a rounding error of float32."""

F64 = NDArray[np.float64]


def round_weights(
    model: Model,
    numerics: Numerics,
    ranges: Mapping[str, Range],
    node_numerics: Mapping[str, Numerics] | None = None,
) -> Model:
    """``model`` with the weights of its convolutions with a kernel moved onto codes that leave the least error.

    For targets that requantise by one shift a tensor: their step follows from the thresholds, so it stays, and a
    compiler that rounds to the nearest code finds the codes chosen here. (Elsewhere the step follows the largest
    weight, and with one a channel there is little to gain.) No weight moves by more than a step. Weights of pointwise
    convolutions and matrix products, whose inputs' correlation nobody knows, stay.

    Args:
        model: The prepared model that was calibrated.
        numerics: How the target computes; where nothing is quantised the model is given back.
        ranges: Kept range by tensor name.
        node_numerics: Other numerics for single nodes, by node name.

    Raises:
        AccelError: as :func:`accel.builtin.reference.quantize.quantize`.
    """
    from accel.builtin.reference.quantize import quantize

    if "shift" not in {n.requantize for n in (numerics, *(node_numerics or {}).values())}:
        return model
    grids = quantize(model, numerics, ranges, node_numerics=node_numerics).grids
    proto = g.copy(model)
    graph = proto.graph
    held, taken = g.constants(graph), g.names_in(graph)
    pictures = {spec.name for spec in model.inputs if len(spec.shape) == 4 and spec.shape[1] == 3}
    changed = False
    for node in graph.node:
        shifted = (node_numerics or {}).get(node.name, numerics).requantize == "shift"
        on = grids.get(node.output[0]) if node.op_type == "Conv" and shifted else None
        weight = held.get(node.input[1]) if on is not None else None
        if on is None or weight is None or weight.ndim < 3 or weight[0, 0].size == 1:
            continue
        # The colours of a pixel are alike; other channels are not, and each rounds for itself.
        together = weight.shape[1] if node.input[0] in pictures else 1
        rows = weight.reshape(len(weight) * weight.shape[1] // together, -1).astype(np.float64)
        step = np.broadcast_to(np.reshape(on.scale, (-1, 1)), (len(weight), 1)).repeat(len(rows) // len(weight), axis=0)
        alike = correlation((together, *weight.shape[2:]), ALIKE)
        codes = least_error(rows, step, alike, _limit(on))
        made = np.clip(codes, -_limit(on) + MARGIN, _limit(on) - MARGIN) * step
        name = g.fresh(taken, f"{node.output[0]}_weight")
        graph.initializer.append(numpy_helper.from_array(made.reshape(weight.shape).astype(np.float32), name))
        node.input[1] = name
        changed = True
    if not changed:
        return model
    g.remove_unused(graph)
    return model.with_proto(proto, applied=PASS)


def correlation(shape: tuple[int, ...], channels: float) -> F64:
    """Assumed correlation of what a convolution reads: [n, n] for weights of ``shape`` (channels, taps ...), flattened.

    ``ALIKE ** distance`` (of rows and columns, added) within a channel; times ``channels`` between two.
    """
    taps = np.indices(shape[1:]).reshape(len(shape) - 1, -1).T
    apart = np.abs(taps[:, None] - taps[None]).sum(axis=-1)
    between = np.full((shape[0], shape[0]), channels)
    np.fill_diagonal(between, 1.0)
    return np.kron(between, ALIKE**apart)


def least_error(weight: F64, step: F64, alike: F64, limit: float) -> F64:
    """Codes of [rows, n] weights whose errors ``e`` have the least ``e @ alike @ e``, by steepest single steps.

    Starts from the nearest codes; never further than one step from a weight, never beyond ``limit``.

    Args:
        weight: Real weights, a row for each output channel (and input channel, where those are not alike).
        step: [rows, 1] real value of a code.
        alike: [n, n] correlation of the inputs.
        limit: Largest magnitude of a code.
    """
    exact = weight / step
    codes = np.clip(np.rint(exact), -limit, limit)
    own = np.diag(alike)
    # In units of the step. Each round moves at most one code a row, and rows that found none to move are done; every
    # move lowers the error, so it ends.
    row = np.arange(len(codes))
    while len(row):
        slope = (codes[row] - exact[row]) @ alike
        to = codes[row] - np.sign(slope)
        gain = 2 * np.abs(slope) - own
        gain[(np.abs(to) > limit) | (np.abs(to - exact[row]) > 1) | (slope == 0)] = 0
        best = gain.argmax(axis=1)
        at = np.arange(len(row))
        moved = gain[at, best] > 1e-9
        codes[row[moved], best[moved]] = to[at[moved], best[moved]]
        row = row[moved]
    return codes


def _limit(on: Grid) -> float:
    return float(min(-on.low, on.high))

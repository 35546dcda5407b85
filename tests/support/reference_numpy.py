"""A plain NumPy model of what the reference must compute, in integers (Python's or int64): slow and obvious."""

from __future__ import annotations

import numpy as np


def conv(x, w, *, stride=1, pad=0, group=1, dilation=1):
    """Convolution of int64 codes: x (n, c, h, w), w (o, c/group, kh, kw)."""
    x = np.pad(np.asarray(x, np.int64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    w = np.asarray(w, np.int64)
    n, _, height, width = x.shape
    o, per, kh, kw = w.shape
    oh = (height - (kh - 1) * dilation - 1) // stride + 1
    ow = (width - (kw - 1) * dilation - 1) // stride + 1
    out = np.zeros((n, o, oh, ow), np.int64)
    for channel in range(o):
        first = channel // (o // group) * per
        for dy in range(kh):
            for dx in range(kw):
                ys, xs = dy * dilation, dx * dilation
                window = x[:, first : first + per, ys : ys + stride * oh : stride, xs : xs + stride * ow : stride]
                out[:, channel] += np.einsum("nchw,c->nhw", window, w[channel, :, dy, dx])
    return out


def requantize(acc, ratio, low, high, rounding, zero=0):
    """clip(round(float32(acc * ratio) + zero) - zero)."""
    y = (np.asarray(acc, np.int64).astype(np.float32) * np.asarray(ratio, np.float32)).astype(np.float64) + zero
    if rounding == "half_even":
        codes = np.rint(y)
    elif rounding == "half_up":
        codes = np.floor(y + 0.5)
    else:
        codes = np.copysign(np.floor(np.abs(y) + 0.5), y)
    return np.clip(codes - zero, low, high)

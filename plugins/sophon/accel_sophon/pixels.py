"""Networks that are fed plain 0..255 pixels: the normalisation folded into the graph, or fused by the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from accel.calibration import Range
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.preprocessing import Preprocessing
from accel.target import Target


def fused(options: BuildOptions) -> bool:
    """Whether the compiler puts the normalisation in front of the network (``--set fuse_preprocess=yes``)."""
    return options.set.get("fuse_preprocess", "no") == "yes"


def takes_pixels(options: BuildOptions) -> bool:
    """Whether the built network is fed 0..255 pixels."""
    return fused(options) or options.fold_preprocessing


def refuse_pixels(model: Model, target: Target, options: BuildOptions) -> None:
    """What cannot be folded or fused.

    Raises:
        AccelError: ``unsupported.fuse-preprocess``, ``usage.preprocessing``.
    """
    if not takes_pixels(options):
        return
    if fused(options) and target.arch == "bm1684":
        raise AccelError(
            "bm1684 has no fused preprocessing",
            code="unsupported.fuse-preprocess",
            hints=["--fold-preprocessing puts mean and scale into the first convolution instead."],
        )
    if fused(options) and options.fold_preprocessing:
        raise AccelError("the normalisation is either folded or fused, not both", code="usage.preprocessing")
    if options.preprocessing is None:
        raise AccelError(
            "there is no preprocessing to put inside the network",
            code="usage.preprocessing",
            hints=["Say how pictures become inputs: --mean, --std, --scale, --color."],
        )
    if options.preprocessing.layout != "NCHW" or len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise AccelError("only a network with one picture as input, in NCHW, takes pixels", code="usage.preprocessing")
    if options.fold_preprocessing and model.vendor_reads:
        raise AccelError(
            "with --frontend vendor the network goes in unchanged: nothing can be folded into it",
            code="usage.preprocessing",
            hints=["Leave one of the two out."],
        )


def _spread(pre: Preprocessing, channels: int) -> tuple[Any, Any]:
    """Mean in pixels and factor by channel: ``(pixel - mean) * factor``."""
    mean = np.broadcast_to(np.asarray(pre.mean, np.float64), (channels,)) / pre.scale
    factor = pre.scale / np.broadcast_to(np.asarray(pre.std, np.float64), (channels,))
    return mean, factor


def fuse_arguments(model: Model, pre: Preprocessing) -> dict[str, str]:
    """Options of ``model_transform`` that describe the normalisation."""
    channels = int(model.inputs[0].shape[1])
    mean, factor = _spread(pre, channels)
    words = {name: ",".join(f"{v:.9g}" for v in values) for name, values in (("mean", mean), ("scale", factor))}
    return {**words, "pixel_format": pre.color}


def fold(model: Model, pre: Preprocessing, kept: Mapping[str, Range]) -> tuple[Model, dict[str, Range]]:
    """``model`` that normalises by itself, and the ranges of its new values."""
    from accel.builtin.prepare.normalise import fold_preprocessing

    spec = model.inputs[0]
    made = fold_preprocessing(model, pre)
    if not kept or made is model:
        return made, dict(kept)
    mean, _ = _spread(pre, int(spec.shape[1]))
    new = {spec.name: Range(0.0, 255.0)}
    new[f"{spec.name}_shifted"] = Range(float(np.min(-mean)), float(np.max(255 - mean)))
    new[f"{spec.name}_normalised"] = kept[spec.name]
    return made, {**kept, **new}


def pixels_of(feeds: Mapping[str, Any], pre: Preprocessing) -> dict[str, Any]:
    """The pixels (uint8 values as float32) that come nearest to normalised arrays."""
    found = {}
    for name, array in feeds.items():
        mean, factor = (v.reshape(1, -1, 1, 1) for v in _spread(pre, array.shape[1]))
        found[name] = np.clip(np.rint(array / factor + mean), 0, 255).astype(np.float32)
    return found


def normalised(pixels: Mapping[str, Any], pre: Preprocessing) -> dict[str, Any]:
    """What the network without the normalisation is fed for ``pixels``."""
    found = {}
    for name, array in pixels.items():
        mean, factor = (v.reshape(1, -1, 1, 1) for v in _spread(pre, array.shape[1]))
        found[name] = ((array - mean) * factor).astype(np.float32)
    return found


def stored(options: BuildOptions) -> Preprocessing | None:
    """The preprocessing as the artifact's user must do it."""
    if options.preprocessing is None or not takes_pixels(options):
        return options.preprocessing
    return replace(options.preprocessing, folded=True)

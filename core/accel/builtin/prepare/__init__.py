"""Passes over the ONNX graph between parse and calibrate, each float-equivalent within a stated bound.

A pass is a function from model to model, listed here by name and imported when it runs. The driver
applies those that are on, in this order, and the manifest names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.model import Model


@dataclass(frozen=True)
class Pass:
    """One preparation pass.

    Attributes:
        name: What ``--pass NAME=off`` and the manifest call it.
        summary: One line.
        function: ``module:function``, a ``Model -> Model``.
        default: On unless switched off.
        bound: Largest change of any output it may cause, relative to that output's largest magnitude; 0 is exact.
    """

    name: str
    summary: str
    function: str
    default: bool = True
    bound: float = 0.0


_FOLD = "accel.builtin.prepare.fold"
PASSES: tuple[Pass, ...] = (
    Pass("fold_constants", "Compute what does not depend on the input.", f"{_FOLD}:fold_constants"),
    Pass(
        "fold_batch_norm",
        "Put batch norms and other scales and shifts of channels into the weights before them.",
        f"{_FOLD}:fold_batch_norm",
        bound=1e-4,
    ),
)
"""In the order they run."""

TUNING: tuple[Pass, ...] = (
    Pass(
        "equalise_depthwise",
        "Widen the small channels that a depthwise convolution reads (needs the calibration's largest values).",
        "accel.builtin.prepare.equalise:equalise_depthwise",
        default=False,
    ),
    Pass(
        "round_weights",
        "Round neighbouring weights so that their errors cancel, where one shift serves a whole tensor.",
        "accel.builtin.prepare.rounding:round_weights",
    ),
    Pass(
        "bias_correction",
        "Take off in the bias what rounded weights add on average (needs the calibration's means).",
        "accel.builtin.prepare.bias_correction:correct_biases",
    ),
)
"""Passes that builders run by :func:`accel.builtin.prepare.tuning.tune`, once numerics and thresholds are known. They
change the float model on purpose, by as much as quantisation is off. ``details["tuning"]`` of a target's numerics
names those that are on for it by default too."""


def check_names(switches: Mapping[str, bool]) -> None:
    """Refuse names that are no pass.

    Raises:
        AccelError: ``usage.pass``; near names are offered.
    """
    from difflib import get_close_matches

    from accel.errors import AccelError

    known = [p.name for p in (*PASSES, *TUNING)]
    for name in switches:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"Did you mean {', '.join(near)}?" if near else f"The passes are: {', '.join(known) or 'none'}."
            raise AccelError(f"there is no preparation pass {name!r}", code="usage.pass", hints=[hint])


def pending(model: Model, switches: Mapping[str, bool]) -> list[Pass]:
    """The passes that are on and not yet applied, in order; none when the vendor reads the sources itself."""
    if model.vendor_reads:
        return []
    return [p for p in PASSES if switches.get(p.name, p.default) and p.name not in model.passes]


def run_passes(model: Model, switches: Mapping[str, bool] | None = None) -> Model:
    """Apply the pending passes; ``model.passes`` names them afterwards.

    Args:
        model: Parsed; passes in ``model.passes`` are not repeated.
        switches: On or off by name; the others as their default says.
    """
    from accel.progress import step

    switches = switches or {}
    check_names(switches)
    wanted = pending(model, switches)
    if not wanted:
        return model
    with step("prepare", len(wanted)) as progress:
        for one in wanted:
            module, _, function = one.function.partition(":")
            model = getattr(import_module(module), function)(model)
            if one.name not in model.passes:
                model = replace(model, passes=(*model.passes, one.name))
            progress.advance(note=one.name)
    return model


prepare = run_passes

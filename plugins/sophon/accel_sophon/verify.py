"""Exit code 0 is no proof: the compiled network is run and compared with float, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target
from numpy.typing import NDArray

from accel_sophon import mlir
from accel_sophon.commands import Bench
from accel_sophon.simulators import Simulator
from accel_sophon.transforms import Transformed

if TYPE_CHECKING:
    from accel.calibration import Calibration

Arrays = dict[str, NDArray[np.float32]]

NONSENSE = 0.6
"""A layer whose cosine with float falls below this while its inputs' are above ``HEALTHY`` computes nonsense. What
BM1684's one step for all weights does to a depthwise convolution goes down to 0.75 (seen on a real SSD)."""
HEALTHY = 0.99
ROUNDING = 1e-5
"""Differences up to this share of the largest value are the last bits of float operations: no note."""
SAME = 0.99
"""Below this cosine a bmodel's output is another one than that of the lowered graph it was made from; above it a
difference is a note (a float operation in another order, and what a code of one step more makes of it below)."""
SAME_DYNAMIC = 0.9
"""The same with dynamic shapes: BM1684's INT8 reaches 0.97 there, and the manifest says so."""


class DiffersError(AccelError):
    """The bmodel is another network than the lowered graph it was made from."""


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        cosine: Of each output of the bmodel with float, by tensor name.
        exact: Whether bmodel and lowered graph gave the same numbers.
        notes: For the manifest.
        reference: Files for ``bmrt_test`` by name.
    """

    cosine: Mapping[str, float]
    exact: bool
    notes: list[str]
    reference: Mapping[str, bytes]


def verify(
    bench: Bench,
    inputs: Arrays,
    chip_inputs: tuple[Arrays, Mapping[str, str]],
    made: Transformed,
    tensors: Mapping[str, str],
    lowered: Path,
    bmodel: Path,
    target: Target,
    options: BuildOptions,
) -> Verdict:
    """Run one sample, ``inputs`` by the model's names, through float, the lowered graph and the bmodel.

    ``chip_inputs``: the same sample as the compiled network takes it (pixels, where it normalises by itself), and its
    names for the inputs.

    Raises:
        AccelError: ``failed.output`` naming the first layer that computes nonsense, or outputs that are no numbers.
    """
    feeds = {made.renamed.get(k, k): v for k, v in inputs.items()}
    with Simulator(bench.env, "mlir", target.arch, made.mlir) as simulator:
        wanted = simulator.infer(feeds, fetch="all")
    pixels, names = chip_inputs
    feeds = {names.get(k, k): v for k, v in pixels.items()}
    with Simulator(bench.env, "mlir", target.arch, lowered) as simulator:
        got = simulator.infer(feeds, fetch="all")
    _refuse_nonsense(mlir.read(made.mlir), mlir.read(lowered), wanted, got, tensors)
    with Simulator(bench.env, "cmodel", target.arch, bmodel) as simulator:
        chip = simulator.infer(feeds, raw=True)
    reference = {
        "input_ref_data.dat": b"".join(chip[k].tobytes() for k in sorted(chip) if k.startswith("in:")),
        "output_ref_data.dat": b"".join(chip[k].tobytes() for k in sorted(chip) if k.startswith("out:")),
    }
    cosines: dict[str, float] = {}
    notes: list[str] = []
    exact = True
    outputs = {k: v for k, v in chip.items() if not k.startswith(("in:", "out:"))}
    if not outputs:
        raise AccelError("the bmodel has no outputs", code="failed.output", stage="build")
    for name, value in outputs.items():
        place = output_location(name, wanted)
        if not np.isfinite(value).all():
            raise AccelError(
                f"output {place!r} of the compiled network is not finite",
                code="failed.output",
                stage="build",
                cause="in float it is" if np.isfinite(wanted[place]).all() else "in float it is not finite either",
            )
        cosine = _cosine(wanted[place], value)
        cosines[tensors.get(place, place)] = cosine
        simulated = got.get(name, got.get(place))
        if simulated is not None and not np.array_equal(simulated.reshape(-1), value.reshape(-1)):
            exact = False
            _refuse_another_network(place, simulated, value, options)
            step = float(np.abs(simulated.reshape(-1) - value.reshape(-1)).max())
            if step > ROUNDING * float(np.abs(value).max()):
                notes.append(
                    f"output {place!r}: bmodel and lowered graph differ by at most {step:.3g} on the check sample "
                    f"(cosine {_cosine(simulated, value):.4f}): evaluate with --simulator cmodel too"
                )
        if cosine < 0.9:
            notes.append(f"output {place!r}: cosine with float {cosine:.3f} on the check sample; evaluate on real data")
    return Verdict(cosines, exact, notes, reference)


def _refuse_another_network(
    place: str, simulated: NDArray[np.float32], value: NDArray[np.float32], options: BuildOptions
) -> None:
    cosine = _cosine(simulated, value)
    if cosine < (SAME_DYNAMIC if options.dynamic else SAME):
        raise DiffersError(
            f"output {place!r} of the bmodel is not what its own lowered graph computes",
            code="failed.output",
            stage="build",
            node=place,
            cause=f"cosine between the two {cosine:.3f}; the compiler reported success",
            hints=[
                "Run `accel check`: it names operators that are known to be compiled wrongly on this chip.",
                "Keep the suspect in float: --node-precision NAME=fp32, or cut the network before it.",
            ],
        )


def output_location(name: str, known: Mapping[str, object]) -> str:
    """The float graph's name of a bmodel's output: the compiler appends ``_f32`` and the like when it casts."""
    while name not in known and "_" in name:
        name = name.rpartition("_")[0]
    return name


def sample(model: Model, calibration: Calibration | None, options: BuildOptions) -> Arrays:
    """One input of the network: from the data if there is any, else with the calibrated distribution of values."""
    if options.dataset is not None:
        for first in options.dataset:
            return {s.name: _fit(np.asarray(first.inputs[s.name], np.float32), s.shape) for s in model.inputs}
    rng = np.random.default_rng(0)
    made = {}
    for spec in model.inputs:
        shape = tuple(int(d) for d in spec.shape)
        statistics = calibration.tensors.get(spec.name) if calibration else None
        low, high = (statistics.low, statistics.high) if statistics else (-1.0, 1.0)
        made[spec.name] = (low + (high - low) * _cloud(shape, rng)).astype(np.float32)
    return made


def _fit(array: NDArray[np.float32], shape: tuple[int | str, ...]) -> NDArray[np.float32]:
    batch = int(shape[0]) if shape else 1
    return np.repeat(array, batch, axis=0)[:batch] if array.ndim and array.shape[0] != batch else array


def _cloud(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Values in 0..1 that vary slowly over the last two axes, as pictures do: white noise excites no filter."""
    if len(shape) < 4:
        return rng.random(shape)
    coarse = rng.random((*shape[:-2], 9, 9))
    rows = np.linspace(0, 8, shape[-2])
    columns = np.linspace(0, 8, shape[-1])
    top, left = np.minimum(rows.astype(int), 7), np.minimum(columns.astype(int), 7)
    down, right = (rows - top)[:, None], columns - left
    upper = coarse[..., top, :] * (1 - down) + coarse[..., top + 1, :] * down
    smooth = upper[..., left] * (1 - right) + upper[..., left + 1] * right
    made: NDArray[np.float64] = np.clip(smooth + 0.05 * rng.standard_normal(shape), 0, 1)
    return made


def _refuse_nonsense(
    top: mlir.Module,
    low: mlir.Module,
    wanted: Mapping[str, NDArray[np.float32]],
    got: Mapping[str, NDArray[np.float32]],
    tensors: Mapping[str, str],
) -> None:
    cosines: dict[str, float] = {}
    for op in top.values():
        for name in op.names:
            if name in wanted and name in got and wanted[name].size == got[name].size:
                cosines[name] = _cosine(wanted[name], got[name])
    for op in top.values():
        bad = [n for n in op.names if cosines.get(n, 1.0) < NONSENSE]
        sources = [cosines[n] for n in op.inputs if n in cosines]
        if bad and sources and min(sources) > HEALTHY and np.abs(wanted[bad[0]]).max() > 1e-6:
            tensor = tensors.get(bad[0], bad[0])
            raise AccelError(
                f"the compiled {op.kind.removeprefix('top.')} {tensor!r} computes something else than the network",
                code="failed.output",
                stage="build",
                node=tensor,
                cause=f"cosine with float: inputs {min(sources):.3f}, output {cosines[bad[0]]:.3f}",
                hints=[
                    f"Keep it in float: --node-precision {tensor}=fp32",
                    "Or replace the operator; the compiler reports success for this one.",
                ],
            )


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    if x.size != y.size:
        return 0.0
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else float(np.array_equal(x, y))

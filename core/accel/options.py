"""What the user asked of a stage: one frozen data class a stage, the same from CLI, recipe and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accel.preprocessing import Preprocessing

if TYPE_CHECKING:
    from accel.dataset import Dataset

Backend = Literal["auto", "vendor", "reference"]


@dataclass(frozen=True)
class ParseOptions:
    """Options of the parse stage.

    Attributes:
        frontend: Name of a frontend, or ``auto`` (by suffix and content); ``vendor``: the vendor's compiler gets the
            files unchanged, and ours reads them for calibration and evaluation alone.
        weights: Second file of two-file formats (``.caffemodel``) or a state dict.
        input_shapes: Shapes by input name, for dynamic dimensions; key "" means the only input.
        output_names: Cut the graph at these tensors.
        renames: New names of inputs by old name.
        simplify: Run the simplifier.
        name: Name of the model; empty: from the file.
        extra: Frontend-specific options (``tf_signature``, ``factory`` ...).
    """

    frontend: str = "auto"
    weights: Path | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    simplify: bool = True
    name: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrateOptions:
    """Options of the calibrate stage.

    Attributes:
        samples: At most this many samples; 0 means all.
        batch: Samples an inference; thresholds do not depend on it.
        resume: File that holds (and receives) partial statistics, or None.
        per_channel: Also keep ranges per channel of every activation.
        values: Values of a tensor and sample that enter its histogram, evenly spread over it (its
            smallest and largest value always count); 0 means all of them, at several times the cost.
    """

    samples: int = 0
    batch: int = 1
    resume: Path | None = None
    per_channel: bool = True
    values: int = 8192


@dataclass(frozen=True)
class BuildOptions:
    """Options of the build stage.

    Attributes:
        precision: One of the target's precisions or aliases; empty: its default.
        backend: ``vendor``: the chip maker's compiler; ``reference``: embedded; ``auto``: the first
            that is installed.
        method: Threshold method (``auto``, ``minmax``, ``percentile``, ``kl``, ``mse``, ``aciq``), or one of
            the vendor's with ``calibrator="vendor"``.
        calibrator: Whose thresholds: ours (``accel``) or the vendor tool's own (``vendor``).
        dataset: Calibration samples for ``calibrator="vendor"``; else unused.
        batches: Batch sizes the artifact must run; more than one puts all of them in one file where
            the chip's format can.
        dynamic: Ask for dynamic shapes where the compiler has them.
        opt: Optimisation level of the vendor's compiler; None: our default for it.
        cores: Cores (clusters) to build for; None: the target's first.
        node_precisions: Precision by node name, overriding ``precision``.
        preprocessing: How inputs are made; stored in the artifact.
        fold_preprocessing: Put mean, std and scale inside the network.
        int_io: ``input``/``output`` for quantised input or output where the chip has them.
        passes: Preparation passes switched on or off by name: ``{"equalize": False}``.
        set: Vendor-only options (``Target.options``), as given with ``--set name=value``.
        labels: Class names by index; stored in the artifact.
    """

    precision: str = ""
    backend: Backend = "auto"
    method: str = "auto"
    calibrator: Literal["accel", "vendor"] = "accel"
    dataset: Dataset | None = None
    batches: tuple[int, ...] = (1,)
    dynamic: bool = False
    opt: int | None = None
    cores: int | None = None
    node_precisions: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    fold_preprocessing: bool = False
    int_io: frozenset[str] = frozenset()
    passes: Mapping[str, bool] = field(default_factory=dict)
    set: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunOptions:
    """Options of the run stage.

    Attributes:
        simulator: Which simulator of the vendor (``mlir``, ``cmodel``, ``quantized``, ``hbm``); empty:
            the faster one that gives the chip's numbers.
        device: ``auto``, ``simulator`` or a device number.
        batch: Batch to run at; None: the artifact's first.
        workers: Simulator processes side by side.
        threads: Host threads; 0: all cores. Of a speed measurement: those that feed the device; 0: one.
        core: Core of the device to measure on, from 1; 0: any.
        frames: Frames to measure over; 0: as many as the vendor's tool usually takes.
        opt_levels: ``accel perf``: also compile at these levels of the vendor's compiler and compare them.
    """

    simulator: str = ""
    device: str = "auto"
    batch: int | None = None
    workers: int = 1
    threads: int = 0
    core: int = 0
    frames: int = 0
    opt_levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of the evaluate stage.

    Attributes:
        samples: At most this many samples; 0 means all.
        reference: The float model's runner is compared when given by the driver (``--against``).
        layers: Compare inner tensors too.
        skip_bad: Leave out unreadable samples (named in the report) instead of stopping.
        topk: The k of top-k.
        stages: Stages of a build shown side by side (``float``, ``calibrated``, ``quantized``, ``chip``).
        extra: Task-specific options.
    """

    samples: int = 0
    reference: bool = True
    layers: bool = False
    skip_bad: bool = False
    topk: int = 5
    stages: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

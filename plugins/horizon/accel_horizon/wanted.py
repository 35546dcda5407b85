"""The user's build options as Horizon's tools take them, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target

from accel_horizon.inputs import PICTURES

DEFAULT_OPT = 2
"""hbdk's own default, O0, makes programs 2 to 5 times slower on the chip; O3 gives O2's speed after several times
its compile time on the networks measured (docs/horizon.md)."""

VENDOR_METHODS = ("kl", "max", "mix", "default")
_INT16 = ("int16",)
_HOST = ("float", "fp32", "cpu", "host")


@dataclass(frozen=True)
class Wanted:
    """What a build is asked for.

    Attributes:
        precision: ``int8`` or ``int16``.
        flags: Of hbdk-cc.
        input_type: What the chip is fed.
        optimization: hmct's optimisation words.
        nodes: hmct's node settings by node name.
        int16_nodes: Nodes asked to be int16.
        host_nodes: Nodes asked to run on the CPU.
        asymmetric: Activation codes without a sign where the chip has them.
        bias_correction: hmct's bias correction.
        per_channel: Vendor's calibrator: thresholds per channel.
        max_percentile: Vendor's calibrator with method ``max``.
        method: Vendor's calibrator.
        cache: hbdk-cc's cache file, or None.
    """

    precision: str
    flags: str
    input_type: str
    optimization: tuple[str, ...] = ()
    nodes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    int16_nodes: tuple[str, ...] = ()
    host_nodes: tuple[str, ...] = ()
    asymmetric: bool = False
    bias_correction: bool = False
    per_channel: bool = False
    max_percentile: float | None = None
    method: str = ""
    cache: Path | None = None


def wanted(model: Model, target: Target, options: BuildOptions) -> Wanted:
    """Check ``options`` against ``target`` and ``model``.

    Raises:
        AccelError: ``usage.*`` for unknown options, values, methods or node names; ``unsupported.*`` for what
            the chip has not.
    """
    precision = target.numerics_for(options.precision).precision
    given = _settings(target, options)
    int16, host = _nodes(model, target, options, given.get("run_on_cpu", ""))
    percentile = _fraction(given.get("max_percentile", ""))
    asymmetric, correction = _asymmetric(given, options, precision), _flag(given, "bias_correction")
    optimization = []
    if precision == "int16":
        optimization.append("set_all_nodes_int16")
    if asymmetric:
        optimization.append("asymmetric")
    if correction:
        optimization.append("bias_correction")
    nodes: dict[str, dict[str, str]] = {name: {"ON": "CPU"} for name in host}
    for name in int16:
        nodes.setdefault(name, {}).update(InputType="int16", OutputType="int16")
    cache = Path(given["compiler_cache"]).expanduser().absolute() if given.get("compiler_cache") else None
    if cache and (_opt(options) != 3 or target.arch != "bayes"):
        raise AccelError(
            "hbdk-cc keeps a cache for O3 on bayes only",
            code="usage.option",
            hints=["Leave out --set compiler_cache, or build for j5 with --opt 3."],
        )
    input_type = given.get("input_type", "") or ("featuremap" if not options.fold_preprocessing else _colour(options))
    return Wanted(
        precision=precision,
        flags=_flags(target, options, given.get("mode", "latency")),
        input_type=input_type,
        optimization=tuple(optimization),
        nodes=nodes,
        int16_nodes=int16,
        host_nodes=host,
        asymmetric=asymmetric,
        bias_correction=correction,
        per_channel=_flag(given, "per_channel"),
        max_percentile=percentile,
        method=_method(options),
        cache=cache,
    )


def _settings(target: Target, options: BuildOptions) -> dict[str, str]:
    specs = {o.name: o for o in target.options}
    for name, value in options.set.items():
        spec = specs.get(name)
        if spec is None:
            raise AccelError(
                f"{target.name} has no option {name!r}",
                code="usage.option",
                hints=[f"Its options are: {', '.join(specs)}."],
            )
        if spec.choices and value not in spec.choices:
            raise AccelError(
                f"--set {name}={value}: there is no such choice",
                code="usage.option",
                hints=[f"Choose one of: {', '.join(spec.choices)}."],
            )
    return dict(options.set)


def _asymmetric(given: Mapping[str, str], options: BuildOptions, precision: str) -> bool:
    # Finer codes that cost the chip nothing; the vendor's calibrator keeps its own default.
    ours = options.calibrator != "vendor" and precision == "int8"
    return given.get("asymmetric", "true" if ours else "false") == "true"


def _flag(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "false") == "true"


def _colour(options: BuildOptions) -> str:
    color = options.preprocessing.color if options.preprocessing else "rgb"
    assert color in PICTURES
    return color


def _fraction(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 1.0:
        raise AccelError(f"--set max_percentile={text} is not between 0.5 and 1", code="usage.option")
    return value


def _method(options: BuildOptions) -> str:
    if options.calibrator != "vendor":
        return ""
    method = "default" if options.method == "auto" else options.method
    if method not in VENDOR_METHODS:
        raise AccelError(
            f"Horizon's calibrator has no method {options.method!r}",
            code="usage.method",
            hints=[f"Choose one of: {', '.join(VENDOR_METHODS)}; or leave out --calibrator vendor."],
        )
    return method


def _opt(options: BuildOptions) -> int:
    level = DEFAULT_OPT if options.opt is None else options.opt
    if level not in (0, 1, 2, 3):
        raise AccelError(f"hbdk-cc has no level {level}", code="usage.opt", hints=["Choose --opt 0, 1, 2 or 3."])
    return level


def _flags(target: Target, options: BuildOptions, mode: str) -> str:
    cores = options.cores or target.cores[0]
    if cores not in target.cores:
        have = " or ".join(str(c) for c in target.cores)
        raise AccelError(
            f"a model for {target.name} is built for {have} core{'s' if target.cores[-1] > 1 else ''}, not {cores}",
            code="unsupported.cores",
            cause="hbdk does not spread one model over both cores of this chip" if target.arch == "bayes" else "",
            hints=["Run two copies of the model side by side, one a core."] if target.arch == "bayes" else [],
        )
    # --debug keeps layer names, so that the estimator can give times by layer; the program stays the same.
    goal = {"latency": "--fast", "bandwidth": "--ddr"}[mode]
    jobs = max(1, min(16, os.cpu_count() or 1))
    return f"--O{_opt(options)} {goal} --core-num {cores} --debug --jobs {jobs}"


def _nodes(
    model: Model, target: Target, options: BuildOptions, run_on_cpu: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from difflib import get_close_matches

    known = {n.name for n in model.proto.graph.node}
    asked = {**dict.fromkeys((n.strip() for n in run_on_cpu.split(",") if n.strip()), "cpu"), **options.node_precisions}
    int16, host = [], []
    for name, precision in asked.items():
        if name not in known:
            near = get_close_matches(name, known, n=3)
            raise AccelError(
                f"the model has no node {name!r}",
                code="usage.node",
                hints=[f"Did you mean {', '.join(near)}?"] if near else ["`accel check` lists the nodes."],
            )
        if precision in _HOST:
            host.append(name)
        elif precision in _INT16:
            target.numerics_for("int16")  # refuses chips that have none
            int16.append(name)
        elif precision != "int8":
            raise AccelError(
                f"node {name!r}: {target.name} has no precision {precision!r}",
                code="unsupported.precision",
                hints=["Choose int8, int16 or cpu (float on the host)."],
            )
    return tuple(int16), tuple(host)

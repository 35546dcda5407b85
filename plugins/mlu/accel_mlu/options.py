"""What ``--set name=value`` means, read once into a data class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from accel.errors import AccelError
from accel.options import BuildOptions
from accel.target import Numerics, Target


@dataclass(frozen=True)
class MluOptions:
    """Build options only MLU has. See ``accel targets mlu370-s4`` for the words.

    Attributes:
        asymmetric: Activations have an offset.
        per_axis: Weights have a scale for each output channel.
        script: Leave the script that builds in the vendor's container instead of building here.
        preference: MagicMind's ``computation_preference``.
        shape_mutable: None: as the batches ask.
        dim_range: By input index: ``{"min": [...], "max": [...]}``.
        input_layout: By input index: ``{"src": ..., "dst": ...}``.
        output_layout: By output index.
        remote: Address of a machine with a card, for the SDK's calibrator.
        cross_compile: Directory of a cross compiler.
        config: JSON object merged over the builder configuration.
        range_names: How a tensor of the graph is called in ``custom_ranges``; ``{name}`` is its ONNX name.
        parser: ``onnx``: our prepared graph; ``native``: the SDK's parser reads the source file.
        first_conv: Older stack: mean and std inside the first convolution.
        variants: Older stack: precisions to make offline models of.
    """

    asymmetric: bool = False
    per_axis: bool = True
    script: bool = False
    preference: Literal["auto", "fast", "high_precision"] = "auto"
    shape_mutable: bool | None = None
    dim_range: Mapping[str, Any] = field(default_factory=dict)
    input_layout: Mapping[str, Any] = field(default_factory=dict)
    output_layout: Mapping[str, Any] = field(default_factory=dict)
    remote: str = ""
    cross_compile: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    range_names: str = "{name}"
    parser: Literal["onnx", "native"] = "onnx"
    first_conv: bool = False
    variants: tuple[str, ...] = ()


def read_options(target: Target, options: BuildOptions) -> MluOptions:
    """The MLU options among ``options.set``.

    Raises:
        AccelError: ``usage.option`` for a name the chip does not have, or a value that is none of its choices.
    """
    known = {o.name: o for o in target.options}
    values = dict(options.set)
    for name, value in values.items():
        spec = known.get(name)
        if spec is None:
            raise AccelError(
                f"{target.name} has no option {name!r}", code="usage.option", hints=[f"It has: {', '.join(known)}."]
            )
        if spec.choices and value not in spec.choices:
            raise AccelError(
                f"{name}={value} is not possible", code="usage.option", hints=[f"One of: {', '.join(spec.choices)}."]
            )
    mutable = values.get("graph_shape_mutable")
    preference = values.get("computation_preference", "auto")
    return MluOptions(
        asymmetric=values.get("activation_quant_algo") == "asymmetric",
        per_axis=values.get("weight_quant_granularity") != "per_tensor",
        script=values.get("emit_script") == "yes",
        preference=preference,  # type: ignore[arg-type]  # one of its choices
        shape_mutable=None if mutable is None else mutable == "yes",
        dim_range=_json(values, "dim_range"),
        input_layout=_json(values, "input_layout"),
        output_layout=_json(values, "output_layout"),
        remote=values.get("remote", ""),
        cross_compile=values.get("cross_compile_toolchain_path", ""),
        config=_json_file(values.get("config", "")),
        range_names=_pattern(values.get("range_names", "{name}")),
        parser="native" if values.get("parser") == "native" else "onnx",
        first_conv=values.get("first_conv") == "yes",
        variants=tuple(v.strip() for v in values.get("variants", "").split(",") if v.strip()),
    )


def numerics(target: Target, precision: str, mlu: MluOptions) -> Numerics:
    """The numerics of ``precision`` with the asked form of codes and granularity of weights."""
    plain = target.numerics_for(precision)
    if plain.activation is None or plain.weight is None:
        return plain
    activation, weight = plain.activation, plain.weight
    if mlu.asymmetric:
        activation = replace(activation, symmetric=False, rule="position_scale_offset")
    if not mlu.per_axis:
        weight = replace(weight, granularity="tensor")
    return replace(plain, activation=activation, weight=weight)


def _json(values: Mapping[str, str], name: str) -> Mapping[str, Any]:
    return _object(values[name], name) if values.get(name) else {}


def _json_file(path: str) -> Mapping[str, Any]:
    if not path:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccelError(f"cannot read config={path}", code="usage.option", cause=str(error)) from error
    return _object(text, f"config={path}")


def _object(text: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AccelError(f"{name} is no JSON", code="usage.option", cause=str(error)) from error
    if not isinstance(found, dict):
        raise AccelError(f"{name} is no JSON object", code="usage.option", hints=['For example {"0": {...}}.'])
    return found


def _pattern(text: str) -> str:
    if text.count("{name}") != 1 or text.replace("{name}", "").count("{"):
        raise AccelError("range_names must hold {name} once", code="usage.option", hints=["For example {name}:0."])
    return text

"""The quantiser of the stand-in."""

from __future__ import annotations

from typing import Any

from magicmind.python.runtime import record, undocumented

_KEYS = {"iteration", "use_avg", "data_scale", "mean", "std", "firstconv", "per_channel", "method"}


def quantize_dynamic_mlu(
    model: Any,
    qconfig_spec: dict[str, Any] | None = None,
    dtype: str | None = None,
    mapping: Any = None,
    inplace: bool = False,
    gen_quant: bool = False,
) -> Any:
    if qconfig_spec is not None and set(qconfig_spec) - _KEYS:
        undocumented(f"qconfig_spec {set(qconfig_spec) - _KEYS}")
    if gen_quant:
        if dtype not in ("int8", "int16") or not qconfig_spec or qconfig_spec["iteration"] < 1:
            undocumented(f"quantisation with dtype {dtype!r} and {qconfig_spec}")
        for child in model.children.values():
            child.observing = {"bits": int(dtype[3:]), "per_channel": qconfig_spec["per_channel"]}
    elif dtype is not None or qconfig_spec is not None:
        undocumented("the second step gives the network alone")
    record("quantize_dynamic_mlu", qconfig_spec, dtype, gen_quant)
    return model

"""The hooks of the embedded frontends. Light: what reads a format is imported when a file of it comes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from accel.errors import AccelError
from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.model import Model
    from accel.options import ParseOptions

FRONTENDS: dict[str, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "caffe": (".prototxt", ".caffemodel"),
}
"""Suffixes by frontend. Each is a module of this package with ``parse(source, options) -> Model``."""


@hookimpl
def accel_parse(source: Path, options: ParseOptions) -> Model | None:
    """Read ``source`` with the frontend that was asked for, or that its suffix names."""
    name = options.frontend
    if name == "auto":
        suffix = source.suffix.lower()
        name = next((n for n, suffixes in FRONTENDS.items() if suffix in suffixes), "")
    if name not in FRONTENDS:
        return None
    if not source.exists():
        raise AccelError(f"no such model: {source}", code="usage.source", stage="parse")
    module = import_module(f"accel.builtin.frontends.{name}")
    return cast("Model", module.parse(source, options))

"""The hooks of the embedded frontends. Light: what reads a format is imported when a file of it comes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from accel.errors import AccelError
from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.model import Model
    from accel.options import ParseOptions
    from accel.toolchain.spec import Toolchain

FRONTENDS: dict[str, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "caffe": (".prototxt", ".caffemodel"),
    "torch": (".pt", ".pth", ".pt2", ".py"),
    "tensorflow": (".keras", ".h5", ".hdf5", ".pb", ".tflite"),
}
"""Suffixes by frontend. Each is a module of this package with ``parse(source, options) -> Model``."""


@hookimpl
def accel_parse(source: Path, options: ParseOptions) -> Model | None:
    """Read ``source`` with the frontend that was asked for, or that its suffix names."""
    name = options.frontend
    if name in ("auto", "vendor"):
        suffix = source.suffix.lower()
        name = next((n for n, suffixes in FRONTENDS.items() if suffix in suffixes), "")
        if source.is_dir() and (source / "saved_model.pb").is_file():
            name = "tensorflow"
    if name not in FRONTENDS:
        return None
    if not source.exists():
        raise AccelError(f"no such model: {source}", code="usage.source", stage="parse")
    module = import_module(f"accel.builtin.frontends.{name}")
    model = cast("Model", module.parse(source, options))
    if options.frontend == "vendor" and not model.vendor_reads:
        raise AccelError(
            f"no vendor's compiler is given {name} files as they are",
            code="unsupported.frontend",
            stage="parse",
            hints=["Leave --frontend vendor out: our importer reads the file."],
        )
    return model


@hookimpl
def accel_toolchains() -> Sequence[Toolchain]:
    """The frameworks that frontends run in environments of their own."""
    from accel.builtin.frontends.toolchains import TENSORFLOW, TORCH

    return (TORCH, TENSORFLOW)

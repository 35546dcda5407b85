"""TensorFlow: SavedModel, Keras (``.keras``, ``.h5``), frozen ``.pb``, ``.tflite`` by the toolchain ``tensorflow``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel.builtin.frontends.isolated import export
from accel.builtin.frontends.toolchains import TENSORFLOW
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import Model
    from accel.options import ParseOptions


def parse(source: Path, options: ParseOptions) -> Model:
    """Read a TensorFlow network; inputs keep TensorFlow's NHWC layout.

    ``options.input_shapes`` fixes sizes the file leaves open (-1 in front: free batch);
    ``options.extra["tf_signature"]`` chooses a SavedModel's signature, ``["tf_outputs"]`` the output nodes of a
    frozen graph, separated by commas.

    Raises:
        AccelError: ``toolchain.missing``; ``model.signature`` for a SavedModel without one; ``model.*``, ``usage.*``.
    """
    if source.is_dir() and not (source / "saved_model.pb").is_file():
        raise AccelError(f"{source} is no SavedModel: it has no saved_model.pb", code="model.saved_model")
    request = {
        "source": str(source.resolve()),
        "shapes": {name: list(shape) for name, shape in options.input_shapes.items()},
        "signature": options.extra.get("tf_signature", ""),
        "outputs": [n for n in options.extra.get("tf_outputs", "").split(",") if n],
    }
    return export(
        TENSORFLOW,
        "tensorflow_export.py",
        request,
        replace(options, input_shapes={}),
        name=options.name or source.resolve().stem,
        sources=_files(source),
    )


def _files(source: Path) -> tuple[Path, ...]:
    if not source.is_dir():
        return (source,)
    return tuple(p for p in sorted(source.rglob("*")) if p.is_file())

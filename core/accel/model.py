"""A model: the ONNX graph with named, typed, shaped inputs and outputs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

VENDOR_TENSORS = "accel.vendor_tensors"
"""Metadata of a model whose sources the vendor reads: the tensors that hold a blob, one after the other, as JSON."""

Dim = int | str
"""A known size, or the name of one that is free (``"batch"``)."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, NumPy dtype name and shape of a model input or output."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{','.join(str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class Model:
    """A network on its way to a chip.

    Attributes:
        proto: Checked, shape-inferred ONNX, weights inside. Treat it as read-only: a pass copies it
            (``onnx.ModelProto.FromString(...)`` or ``copy.deepcopy``) and returns a new Model.
        name: File-name safe; names every file made from it.
        inputs: Real inputs only (no initialisers), in graph order. Dimension 0 is the batch.
        outputs: In graph order.
        sources: Files it came from.
        passes: Names of the preparation passes applied so far, in order.
        notes: What a user must know about how it was read or prepared (fallbacks, warnings), one line each;
            they go into manifests and reports.
        vendor_reads: The vendor's compiler is to read ``sources`` itself, unchanged; the graph here, read by our own
            importer and left as it is, serves calibration and evaluation. Text under :data:`VENDOR_TENSORS` says
            which of its tensors is which value of the sources.
    """

    proto: onnx.ModelProto
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sources: tuple[Path, ...] = ()
    passes: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    vendor_reads: bool = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the graph in protobuf's deterministic form."""
        return hashlib.sha256(self.proto.SerializeToString(deterministic=True)).hexdigest()

    @property
    def metadata(self) -> dict[str, str]:
        """Text the graph carries beside its nodes (a detection head's parameters as JSON, for example)."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    def with_proto(self, proto: onnx.ModelProto, *, applied: str = "") -> Model:
        """This model with another graph: inputs and outputs are read from it again.

        Args:
            proto: The new graph.
            applied: Name of the pass that made it, appended to ``passes``.
        """
        inputs, outputs = io_specs(proto)
        passes = (*self.passes, applied) if applied else self.passes
        return replace(self, proto=proto, inputs=inputs, outputs=outputs, passes=passes)


def io_specs(proto: onnx.ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs (without initialisers) and outputs of a graph."""
    from onnx import helper

    held = {i.name for i in proto.graph.initializer}

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        dims: list[Dim] = []
        for at, dim in enumerate(tensor.shape.dim):
            known = dim.WhichOneof("value") == "dim_value"
            dims.append(dim.dim_value if known else dim.dim_param or f"{value.name}_dim{at}")
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "float32"
        return TensorSpec(value.name, dtype, tuple(dims))

    inputs = tuple(spec(v) for v in proto.graph.input if v.name not in held)
    return inputs, tuple(spec(v) for v in proto.graph.output)

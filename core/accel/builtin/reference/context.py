"""The state of one quantisation: which tensors exist in which form, and how to get another form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from accel.artifact import NodeNumerics
from accel.builtin.reference import elementwise, schemes
from accel.builtin.reference.graph import Source, Writer, attributes
from accel.builtin.reference.schemes import Grid
from accel.builtin.reference.unsigned import between_convolutions, depthwise
from accel.calibration import Range
from accel.errors import AccelError
from accel.target import FloatType, Numerics, QuantScheme

EXACT = 2**24
"""Integers below this in magnitude are exact in float32."""


@dataclass(frozen=True)
class Codes:
    """A tensor stored as centred codes."""

    tensor: str
    grid: Grid


@dataclass(frozen=True)
class Sum:
    """The accumulator of a linear operator, before requantisation (and before a fused activation).

    Attributes:
        tensor: Integer-valued tensor of the quantised graph, bias included.
        step: Real value of one step, shape () or (channels,).
        axis: Where the channels lie.
    """

    tensor: str
    step: np.ndarray
    axis: int


@dataclass
class Context:
    """What handlers work with.

    Attributes:
        source: The float graph.
        w: The graph being written.
        numerics: The build's numerics; ``at`` gives the node's own.
        ranges: Kept range by tensor name of the float graph.
    """

    source: Source
    w: Writer
    numerics: Numerics
    ranges: Mapping[str, Range]
    overrides: Mapping[str, Numerics] = field(default_factory=dict)
    place: str = ""
    nodes: list[NodeNumerics] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fused: dict[str, str] = field(default_factory=dict)
    """First output of a node that was folded into another -> that other's name."""
    sums: dict[str, Sum] = field(default_factory=dict)
    """Accumulators by the name of the linear operator's result."""
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    """Real values of the rounded weights, in the operator's own layout, likewise."""
    grids: dict[str, Grid] = field(default_factory=dict)
    """Where those weights lie, likewise."""
    _codes: dict[str, Codes] = field(default_factory=dict)
    _floats: dict[tuple[str, FloatType], str] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)
    _requantized: dict[tuple[str, int], Codes] = field(default_factory=dict)

    def at(self, node: onnx.NodeProto) -> Numerics:
        """The numerics of this node: an override or the build's."""
        return self.overrides.get(node.name, self.numerics)

    # --- results -----------------------------------------------------------------------------------------------

    def store(self, name: str, tensor: str, grid: Grid) -> None:
        """Tensor ``name`` of the float graph now exists as codes."""
        self._codes[name] = Codes(tensor, grid)

    def store_float(self, name: str, tensor: str, kind: FloatType = "fp32") -> None:
        """Tensor ``name`` of the float graph now exists in float, rounded to ``kind``."""
        for weaker in ("fp32", kind):
            self._floats[(name, weaker)] = tensor

    def stored(self, name: str) -> Codes | None:
        """The codes of ``name`` if it has them already."""
        return self._codes.get(name)

    def form(self, name: str) -> tuple[str, Grid | None] | None:
        """How ``name`` can be fetched: the tensor and its grid, or None for one that was fused away."""
        held = self._codes.get(name)
        if held:
            return held.tensor, held.grid
        tensor = self._floats.get((name, "fp32"))
        return (tensor, None) if tensor else None

    def planes(self, *names: str) -> int:
        """Channels of 4-D tensors of one and the same shape; 0 when they are anything else."""
        shapes = {self.source.shape(name) for name in names}
        shape = shapes.pop()
        if shapes or shape is None or len(shape) != 4 or any(self.source.constant(n) is not None for n in names):
            return 0
        return shape[1] or 0

    # --- demands -----------------------------------------------------------------------------------------------

    def codes(self, name: str, scheme: QuantScheme) -> Codes:
        """``name`` as codes of at most ``scheme.bits`` bits, quantised where it is float."""
        held = self._codes.get(name)
        if held is not None and held.grid.bits <= scheme.bits:
            return held
        if held is not None:
            return self._narrowed(name, held, scheme)
        array = self.source.constant(name)
        if array is not None:
            grid = schemes.weight_grid(scheme, np.asarray(array, np.float32), None)
            codes = schemes.quantize(array, grid)
            found = Codes(self.w.const(codes, hint=f"{name}/codes"), grid)
        else:
            found = self.quantize(self.floating(name), self.grid(name, scheme), f"{name}/codes")
        self._codes[name] = found
        return found

    def quantize(self, tensor: str, grid: Grid, hint: str, planes: int = 0) -> Codes:
        """Emit ``clip(round(x * inverse + zero) - zero)``; ``planes`` as in :mod:`.elementwise`."""
        kept = elementwise.bounds_of(grid)
        rounding: Any = self.numerics.details.get("cast_rounding", grid.rounding)
        cast = replace(grid, rounding=rounding)
        if grid.divides and grid.step is not None:
            real = self.w.op("Div", [tensor, self.w.const(grid.step.astype(np.float32))], f"{hint}/steps")
            return Codes(elementwise.round_and_clip(self.w, real, kept, cast, hint, planes=planes), grid)
        return Codes(elementwise.by_float(self.w, tensor, grid.inverse, kept, cast, hint, planes=planes), grid)

    def quantize_once(self, name: str, tensor: str, grid: Grid) -> Codes:
        """Codes of a floating tensor for the ``inputs`` dataflow; the tensor itself stays floating."""
        key = (name, grid.bits)
        if key not in self._requantized:
            planes = self.planes(name)
            # A convolution follows; below 8 channels its layout is not a blocked one.
            blocked = planes if planes >= 8 else 0
            self._requantized[key] = self.quantize(tensor, grid, f"{name}/codes", blocked)
        return self._requantized[key]

    def keep_name(self, name: str) -> None:
        """Make ``name`` itself exist in float, for subgraphs that read it from outside."""
        tensor = self.floating(name)
        if tensor != name and name not in self._kept:
            self._kept.add(name)
            self.w.nodes.append(onnx.helper.make_node("Identity", [tensor], [name], name=f"{name}/kept"))

    def _narrowed(self, name: str, held: Codes, scheme: QuantScheme) -> Codes:
        key = (name, scheme.bits)
        if key not in self._requantized:
            grid = self.grid(name, scheme)
            hint = f"{name}/codes{scheme.bits}"
            self._requantized[key] = Codes(self.rescale(held, grid, hint), grid)
        return self._requantized[key]

    def rescale(self, held: Codes, grid: Grid, hint: str) -> str:
        """Codes on another grid."""
        if held.grid.same(grid):
            return held.tensor
        ratio = np.asarray(held.grid.scale * grid.inverse, np.float32)
        return elementwise.by_float(self.w, held.tensor, ratio, elementwise.bounds_of(grid), grid, hint)

    def grid(self, name: str, scheme: QuantScheme) -> Grid:
        """The grid of activation ``name``.

        Raises:
            AccelError: ``calibration.missing`` when nothing is known of the tensor.
        """
        kept = self.ranges.get(name)
        if kept is None:
            node = self.source.producer.get(name)
            raise AccelError(
                f"the calibration has no range for tensor {name!r}",
                code="calibration.missing",
                node=node.name if node else "",
                hints=["Calibrate the model that is built (after preparation), then build again."],
            )
        if not schemes.finite_range(kept.low, kept.high):
            raise AccelError(
                f"the range of tensor {name!r} is [{kept.low}, {kept.high}]",
                code="calibration.range",
                cause="a range must be finite and in order",
            )
        if scheme.bits > 8 and self._narrow(name):
            scheme = replace(scheme, bits=8)
        where = self.numerics.details.get("unsigned_codes")
        if scheme.unsigned and where:
            scheme = replace(scheme, unsigned=where == "convolutions" and between_convolutions(self.source, name))
        return schemes.activation_grid(scheme, kept)

    def _narrow(self, name: str) -> bool:
        """Whether a tensor has 8 bits in a 16-bit network, as all that read it, or what wrote it, know only those."""
        kinds = self.numerics.details.get("narrow_tensors", "").split(",")
        readers, made = self.source.consumers.get(name, []), self.source.producer.get(name)
        if made is not None and made.op_type == "ConvTranspose" and made.op_type in kinds:
            return True
        return bool(readers) and all(node.op_type in kinds for node in readers)

    def reads(self, node: onnx.NodeProto) -> QuantScheme:
        """What an operator reads its input as: the activations' scheme, or 8 bits where it knows only those."""
        numerics = self.at(node)
        assert numerics.activation is not None
        kind = node.op_type
        if kind == "Conv" and depthwise(self.source, node) and max(attributes(node).get("strides", [1])) > 1:
            kind = "strided depthwise Conv"
        narrow = kind in numerics.details.get("narrow_inputs", "").split(",")
        return replace(numerics.activation, bits=min(8, numerics.activation.bits)) if narrow else numerics.activation

    def floating(self, name: str, kind: FloatType = "fp32") -> str:
        """``name`` as a float32 tensor whose values are representable in ``kind``."""
        if not name or not self.source.is_float(name):
            return name
        key = (name, kind)
        if key in self._floats:
            return self._floats[key]
        held = self._codes.get(name)
        array = self.source.constant(name)
        if array is not None:
            tensor = self.w.const(round_float(array, kind), hint=name)
        elif held is not None:
            tensor = self.w.op("Div", [held.tensor, self.w.const(held.grid.inverse)], f"{name}/float")
            tensor = self.rounded(tensor, kind, f"{name}/{kind}")
        else:
            tensor = self.rounded(self._floats.get((name, "fp32"), name), kind, f"{name}/{kind}")
        self._floats[key] = tensor
        return tensor

    def rounded(self, tensor: str, kind: FloatType, hint: str) -> str:
        """Round a float32 tensor to what ``kind`` can hold (to infinity beyond its largest value)."""
        if kind == "fp32":
            return tensor
        to = onnx.TensorProto.FLOAT16 if kind == "fp16" else onnx.TensorProto.BFLOAT16
        half = self.w.op("Cast", [tensor], f"{hint}/half", to=to)
        return self.w.op("Cast", [half], hint, to=onnx.TensorProto.FLOAT)

    def report(self, node: onnx.NodeProto, precision: str, note: str = "") -> None:
        """Say what became of a node."""
        self.nodes.append(NodeNumerics(node.name, node.op_type, precision, self.place, note))


Handler = Callable[[Context, onnx.NodeProto], bool]
"""Writes one node on codes and stores its outputs; False: cannot, do it in float."""

HANDLERS: dict[str, Handler] = {}


def handles(*op_types: str) -> Callable[[Handler], Handler]:
    """Register a handler of the ``stored`` dataflow for these operators."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS[op_type] = handler
        return handler

    return register


def round_float(array: np.ndarray, kind: FloatType) -> np.ndarray:
    """Round float32 to what ``kind`` can hold, ties to even, beyond the largest value to infinity."""
    array = np.asarray(array, np.float32)
    if kind == "fp16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    if kind == "bf16":
        bits = np.ascontiguousarray(array).reshape(array.shape).view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
        return np.where(np.isnan(array), array, rounded)
    return array

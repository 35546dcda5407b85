"""The compiler's tables, written from our own decisions: thresholds by layer, precision by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accel.calibration import Range
from accel.errors import AccelError

from accel_sophon.mlir import Module, Op

# The result holds the values of the (first) operand, moved around or cut: its range is the operand's.
_MOVES = {
    "top.Reshape", "top.Permute", "top.Slice", "top.Squeeze", "top.Unsqueeze", "top.Tile", "top.Upsample", "top.Split",
    "top.MaxPool", "top.Depth2Space", "top.PixelShuffle", "top.Reverse", "top.ShuffleChannel", "top.Gather",
    "top.StridedSlice", "top.Expand", "top.Pad", "top.Identity", "top.MaxUnpool", "top.SwapChannel", "top.Flatten",
}  # fmt: skip

# Indices and counts: never stored as codes, so they need no row.
_INTEGERS = {"top.Arg", "top.TopK", "top.NonZero", "top.Nms", "top.Shape"}


def ranges_by_location(module: Module, tensors: Mapping[str, str], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """A range for every value of the float MLIR.

    Args:
        module: From the transform.
        tensors: Tensor name by location (:func:`accel_sophon.names.tensor_by_location`).
        ranges: Kept range by tensor name, from our calibration.

    Raises:
        AccelError: ``calibration.missing`` naming the values without one: a missing row would abort the compiler.
    """
    found: dict[str, Range] = {}
    missing: list[str] = []
    for op in module.values():
        for name in op.names:
            # What only moves values keeps its operand's range: the compiler would else carry the result's range
            # back to the operand.
            kept = _moved(op, found) or ranges.get(tensors.get(name, "")) or _derived(op, found)
            if kept is None and op.kind in _INTEGERS:
                continue
            if kept is None:
                missing.append(f"{name} ({op.kind})")
            else:
                found[name] = kept
    if missing:
        raise AccelError(
            f"no calibrated range for {len(missing)} value(s) of the compiler's graph",
            code="calibration.missing",
            cause=", ".join(missing[:8]),
            hints=[
                "The compiler split an operator in a way our calibration has no statistics for.",
                "Give calibration data and let its own tool calibrate: --calibrator vendor",
            ],
        )
    return found


def _moved(op: Op, found: Mapping[str, Range]) -> Range | None:
    return found.get(op.inputs[0]) if op.kind in _MOVES and op.inputs else None


def _derived(op: Op, found: Mapping[str, Range]) -> Range | None:
    sources = [found[name] for name in op.inputs if name in found]
    if op.kind == "top.Concat" and sources:
        return Range(min(r.low for r in sources), max(r.high for r in sources))
    if op.kind in ("top.Sigmoid", "top.Softmax", "top.HardSigmoid", "top.Compare", "top.CompareConst"):
        return Range(0.0, 1.0)
    if op.kind == "top.Tanh":
        return Range(-1.0, 1.0)
    if op.kind == "top.Relu" and sources:
        return Range(0.0, max(sources[0].high, 1e-5))
    return None


def write_calibration(path: Path, ranges: Mapping[str, Range], note: str) -> None:
    """Write a calibration table: a row ``name threshold min max`` for each location.

    The compiler takes ``threshold`` for the step of the codes and a minimum of at least 0 for "unsigned".
    """
    lines = [f"# {note}", "# op_name    threshold    min    max"]
    for name, kept in ranges.items():
        # Zero would make a step of zero; the compiler's own floor is of this size.
        threshold = max(kept.threshold, 1e-5)
        high = max(kept.high, kept.low + 1e-5)
        lines.append(f"{name} {threshold:.17g} {kept.low:.17g} {high:.17g}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> dict[str, tuple[float, float, float]]:
    """Rows of a calibration table: threshold, min and max by location.

    Raises:
        AccelError: ``calibration.unreadable`` with the number of the bad line.
    """
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        try:
            rows[words[0]] = (float(words[1]), float(words[2]), float(words[3]))
        except (IndexError, ValueError) as error:
            raise AccelError(
                f"{path.name}, line {number} is no row of a calibration table",
                code="calibration.unreadable",
                cause=line,
            ) from error
    return rows


MODES = {"int8": "INT8", "fp32": "F32", "fp16": "F16", "bf16": "BF16", "w8f16": "W8F16"}
"""The compiler's word for each of our precisions."""


def write_precisions(path: Path, precisions: Mapping[str, str]) -> None:
    """Write a quantize table: a row ``name mode`` for each location."""
    rows = [f"{name} {MODES[precision]}" for name, precision in precisions.items()]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def locations_of_nodes(
    module: Module, tensors: Mapping[str, str], outputs: Mapping[str, tuple[str, ...]], wanted: Mapping[str, str]
) -> dict[str, str]:
    """Precision by location, from precision by node.

    Args:
        module: From the transform.
        tensors: Tensor name by location.
        outputs: Output tensors by node name, of the model that was transformed.
        wanted: Precision by node name.

    Raises:
        AccelError: ``usage.node`` for a node that is not in the model or that the compiler fused into another: it
            would ignore the row without a word.
    """
    import difflib

    by_tensor = {tensor: location for location, tensor in tensors.items() if location in module.by_name}
    chosen = {}
    for node, precision in wanted.items():
        if node not in outputs:
            near = difflib.get_close_matches(node, outputs, n=3, cutoff=0.4)
            raise AccelError(
                f"the model has no node {node!r}",
                code="usage.node",
                node=node,
                hints=[f"Did you mean {', '.join(near)}?"] if near else ["`accel check` lists the nodes."],
            )
        places = [by_tensor[t] for t in outputs[node] if t in by_tensor]
        if not places:
            raise AccelError(
                f"node {node!r} is fused into its neighbour by the compiler and has no precision of its own",
                code="usage.node",
                node=node,
                hints=["Set the precision of the node after it (Conv + Relu is called by the Relu)."],
            )
        chosen.update(dict.fromkeys(places, precision))
    return chosen

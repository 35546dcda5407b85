"""Concatenated tensors that share one step, where the compiler gives them one (``concat_steps = "shared"``)."""

from __future__ import annotations

from collections.abc import Mapping

from accel.builtin.reference.graph import Source
from accel.calibration import Range

_KEEPS_STEP = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")


def shared_ranges(source: Source, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """``ranges`` with one range for all that a Concat reads and writes: the hull of theirs.

    What only moves codes about on the way (max pooling, reshapes) has the range too.
    """
    found = dict(ranges)
    for node in source.nodes:
        if node.op_type != "Concat":
            continue
        members = [node.output[0]]
        for name in node.input:
            while name in found:
                members.append(name)
                made = source.producer.get(name)
                if made is None or made.op_type not in _KEEPS_STEP:
                    break
                name = made.input[0]
        known = [found[name] for name in members if name in found]
        if known:
            hull = Range(min(r.low for r in known), max(r.high for r in known))
            found.update(dict.fromkeys(members, hull))
    return found

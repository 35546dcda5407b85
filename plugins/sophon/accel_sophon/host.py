"""The end of a network that the chip cannot do: written into the artifact, run by ONNX Runtime behind the chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.artifact import Artifact, NodeNumerics
from accel.builtin.prepare.split import Split, split_tail
from accel.model import Model, TensorSpec

if TYPE_CHECKING:
    from accel.runner import Runner

FOLDER = "host"
"""Where an artifact holds the host's part, a file a batch size."""


def write_tails(directory: Path, model: Model, split: Split, batches: Sequence[int]) -> list[Path]:
    """The host's part at every batch size, as ``host/batchN.onnx``."""
    from accel.builtin.prepare.batch import set_batch

    paths = []
    (directory / FOLDER).mkdir()
    for batch in batches:
        made = split_tail(set_batch(model, batch), split.nodes)
        assert made is not None  # the same nodes
        path = directory / FOLDER / f"batch{batch}.onnx"
        path.write_bytes(made.host.proto.SerializeToString(deterministic=True))
        paths.append(path)
    return paths


def host_nodes(split: Split) -> list[NodeNumerics]:
    """A line in the manifest for every node of the host's part."""
    kinds = {node.name: node.op_type for node in split.host.proto.graph.node}
    return [NodeNumerics(name, kinds.get(name, ""), "fp32", "host", why) for name, why in split.nodes.items()]


def host_details(split: Split) -> dict[str, Any]:
    """What the runner must know: the outputs of the chip's part."""
    return {"host": {"chip_outputs": [[o.name, o.dtype, list(o.shape)] for o in split.chip.outputs]}}


def chip_part(artifact: Artifact) -> Artifact:
    """``artifact`` with the outputs that its bmodel has."""
    about: Any = artifact.manifest.details.get("host")
    if not about:
        return artifact
    outputs = tuple(TensorSpec(str(n), str(d), tuple(s)) for n, d, s in about["chip_outputs"])
    return replace(artifact, manifest=replace(artifact.manifest, outputs=outputs))


def with_tail(runner: Runner, artifact: Artifact, batch: int) -> Runner:
    """``runner`` of the chip's part, with the host's part behind it where the artifact has one."""
    if "host" not in artifact.manifest.details:
        return runner
    from accel.builtin.evaluate.host_tail import HostTail

    path = artifact.path / FOLDER / f"batch{batch}.onnx"
    return HostTail(runner, path, artifact.manifest.outputs, batch)

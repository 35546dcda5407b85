"""fp16 overflow on the reference: it behaves as fp16 (infinity), and is said: how many values, in which node first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accel import progress
from accel.artifact import Artifact
from accel.builtin.reference.runner import ReferenceRunner
from accel.options import RunOptions

NODES = "node_of_tensor"
"""Key in a manifest's details: which node writes a tensor."""


@dataclass(frozen=True)
class Overflow:
    """Infinities and NaN where the model's input had none.

    Attributes:
        values: How many, in all inner tensors.
        tensors: How many tensors hold some.
        first: The first of these, in execution order.
        node: The node that writes it.
    """

    values: int
    tensors: int
    first: str
    node: str

    def __str__(self) -> str:
        return (
            f"fp16 overflow: {self.values} values in {self.tensors} tensors, "
            f"first in {self.first!r} of node {self.node!r}"
        )


class HalfRunner(ReferenceRunner):
    """A reference runner that looks for overflow on its first run, and whenever its outputs are not finite."""

    node_of: Mapping[str, str]
    found: Overflow | None = None
    _looked = False

    @classmethod
    def of(cls, artifact: Artifact, options: RunOptions) -> HalfRunner:
        """Open ``artifact``; see :meth:`ReferenceRunner.open`."""
        runner = cls.open(artifact, options)
        assert isinstance(runner, HalfRunner)
        held = artifact.manifest.details.get(NODES)
        runner.node_of = {str(k): str(v) for k, v in held.items()} if isinstance(held, Mapping) else {}
        return runner

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """See :meth:`ReferenceRunner.run`; the first overflow is a message to the user."""
        results = super().run(feeds, fetch)
        broken = any(not np.isfinite(a).all() for a in results.values() if a.dtype.kind == "f")
        if self.found is None and (broken or not self._looked):
            self._looked = True
            self.found = self.overflow(feeds)
            if self.found:
                progress.message(f"{self.device}: {self.found}")
        return results

    def overflow(self, feeds: Mapping[str, np.ndarray]) -> Overflow | None:
        """Look at every inner tensor for this input; None when all are finite."""
        values, tensors, first = 0, 0, ""
        for name, array in super().run(feeds, list(self.layers())).items():
            count = int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind == "f" else 0
            if count:
                values, tensors, first = values + count, tensors + 1, first or name
        return Overflow(values, tensors, first, self.node_of.get(first, "")) if values else None

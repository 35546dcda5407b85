"""A runner: an opened artifact. Named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from accel.model import TensorSpec

if TYPE_CHECKING:
    import numpy as np

Provenance = Literal["measured", "simulated", "predicted"]
"""Where a figure comes from: a device, a simulator (the reference is one), or a formula."""


class Runner(Protocol):
    """Runs a network. A context manager; ``close`` may be called twice."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    provenance: Provenance
    device: str
    """For people: ``reference (ONNX Runtime)``, ``bm1684 cmodel``, ``bm1684 #0``."""

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Compute outputs (or, with ``fetch``, any tensors this runner can show) in float form.

        Raises:
            AccelError: ``usage.input`` for a wrong name, shape or dtype.
        """
        ...

    def layers(self) -> tuple[str, ...]:
        """Names of inner tensors that ``fetch`` accepts, in execution order; () if it shows none.

        They are the names of the float model's tensors, so that both sides can be compared.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

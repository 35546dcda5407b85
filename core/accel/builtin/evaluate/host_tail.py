"""A runner whose network ends on the host: the chip's outputs go through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from accel.builtin.evaluate.float_runner import FloatRunner
from accel.errors import AccelError
from accel.model import Model, TensorSpec, io_specs

if TYPE_CHECKING:
    from accel.runner import Runner


class HostTail:
    """``chip`` with the host's part of the network behind it.

    Args:
        chip: Runs the first part; closed with this runner.
        tail: ONNX file of the second part, at a batch of ``batch``.
        outputs: The network's own outputs.
        batch: Samples a run of both parts.

    Raises:
        AccelError: ``artifact.incomplete`` when the file cannot be read, ``model.unrunnable``.
    """

    def __init__(self, chip: Runner, tail: Path, outputs: tuple[TensorSpec, ...], batch: int) -> None:
        self.chip = chip
        self.inputs, self.outputs = chip.inputs, outputs
        self.provenance = chip.provenance
        self.device = f"{chip.device} + host"
        self.batch = batch
        try:
            self._tail = FloatRunner(_read(tail))
        except BaseException:
            chip.close()
            raise
        self._needed = tuple(s.name for s in self._tail.inputs)

    def layers(self) -> tuple[str, ...]:
        """What the chip's runner shows, then what the host computes."""
        return (*self.chip.layers(), *self._tail.layers())

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """See :class:`accel.runner.Runner`."""
        wanted = list(fetch) if fetch is not None else [s.name for s in self.outputs]
        shown = {*self._tail.layers(), *(s.name for s in self._tail.outputs)}
        after = [n for n in wanted if n in shown]
        given = {s.name for s in self.inputs}
        on_chip = [n for n in dict.fromkeys([*wanted, *(self._needed if after else ())]) if n not in {*shown, *given}]
        found = dict(self.chip.run(feeds, on_chip)) if on_chip or not after else {}
        if after:
            found.update(self._after({n: found.get(n, feeds.get(n)) for n in self._needed}, after))
        return {n: found[n] for n in wanted}

    def _after(self, given: Mapping[str, np.ndarray | None], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        arrays = {n: np.asarray(a) for n, a in given.items()}
        total = next(iter(arrays.values())).shape[0]
        parts = []
        for at in range(0, total, self.batch):
            part = {n: _filled(a[at : at + self.batch], self.batch) for n, a in arrays.items()}
            parts.append(self._tail.run(part, wanted))
        if len(parts) == 1 and total == self.batch:
            return parts[0]
        joined = {}
        for name in wanted:
            if any(p[name].ndim == 0 or p[name].shape[0] != self.batch for p in parts):
                raise AccelError(
                    f"{name!r} has no batch to join on: run {self.batch} sample(s) at a time", code="usage.input"
                )
            joined[name] = np.concatenate([p[name] for p in parts])[:total]
        return joined

    def close(self) -> None:
        """Close both parts. May be called twice."""
        self.chip.close()
        self._tail.close()

    def __enter__(self) -> HostTail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _filled(array: np.ndarray, batch: int) -> np.ndarray:
    """The last part of a run, filled up with its last sample."""
    missing = batch - array.shape[0]
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


def _read(path: Path) -> Model:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise AccelError(
            f"the host's part of the network cannot be read: {path.name}",
            code="artifact.incomplete",
            cause=str(error),
            hints=["Build it again."],
        ) from error
    return Model(proto, path.stem, *io_specs(proto))

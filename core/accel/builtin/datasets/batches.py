"""Putting samples together for a network that runs several at once, and taking the results apart again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.dataset import Sample
    from accel.model import TensorSpec


def batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists of ``size`` samples in order; the last may be shorter."""
    held: list[Sample] = []
    for sample in samples:
        held.append(sample)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def stack(samples: Sequence[Sample], size: int) -> dict[str, np.ndarray]:
    """Feeds of ``size`` samples; a short batch is filled up with its last sample.

    Raises:
        AccelError: ``data.sample`` when the samples differ in shape.
    """
    if size == 1 and len(samples) == 1:
        return dict(samples[0].inputs)
    filled = [*samples, *[samples[-1]] * (size - len(samples))]
    feeds = {}
    for name, first in samples[0].inputs.items():
        for sample in samples:
            if sample.inputs[name].shape != first.shape:
                raise AccelError(
                    f"{sample.name} cannot share a batch with {samples[0].name}",
                    code="data.sample",
                    cause=f"shapes {list(sample.inputs[name].shape)} and {list(first.shape)} of {name}",
                    hints=["Use batch 1, or a preprocessing with a fixed size."],
                )
        feeds[name] = np.concatenate([s.inputs[name] for s in filled])
    return feeds


def split(outputs: Mapping[str, np.ndarray], size: int, optional: Container[str] = ()) -> list[dict[str, np.ndarray]]:
    """One dictionary of outputs a sample, each with a batch axis of its own share.

    Names in ``optional`` (inner tensors) that do not divide are left out.

    Raises:
        AccelError: ``evaluate.batch`` when an output's first axis is not a multiple of ``size``.
    """
    if size == 1:
        return [dict(outputs)]
    shares: list[dict[str, np.ndarray]] = [{} for _ in range(size)]
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] % size:
            if name in optional:
                continue
            raise AccelError(
                f"the output {name} of shape {list(array.shape)} does not divide into a batch of {size}",
                code="evaluate.batch",
                hints=["Evaluate at batch 1."],
            )
        step = array.shape[0] // size
        for at, share in enumerate(shares):
            share[name] = array[at * step : (at + 1) * step]
    return shares


def batch_size(inputs: Sequence[TensorSpec]) -> int:
    """The batch a runner takes: its inputs' first dimension, 1 when that is free."""
    sizes = {spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], int)}
    return int(max((s for s in sizes if isinstance(s, int)), default=1))

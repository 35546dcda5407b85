"""One pass over a data set that feeds several runners and the float reference side by side."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from accel.builtin.datasets.batches import batch_size, batches, split, stack
from accel.builtin.evaluate.comparison import TensorComparison
from accel.errors import AccelError
from accel.progress import step

if TYPE_CHECKING:
    from accel.dataset import Dataset, Sample
    from accel.options import EvaluateOptions
    from accel.runner import Runner
    from accel.task import Meter, Task


@dataclass
class Measurement:
    """What one runner did over the data set."""

    runner: Runner
    meter: Meter | None
    outputs: dict[str, TensorComparison] = field(default_factory=dict)
    layers: dict[str, TensorComparison] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run_samples(
    runner: Runner, samples: Sequence[Sample], fetch: Sequence[str] | None, inner: Container[str] = ()
) -> list[dict[str, np.ndarray]]:
    """Results of each sample, at the runner's own batch size; ``inner`` tensors without a batch axis are left out."""
    size = batch_size(runner.inputs)
    found: list[dict[str, np.ndarray]] = []
    for group in batches(samples, size):
        found += split(runner.run(stack(group, size), fetch), size, inner)[: len(group)]
    return found


def measure(
    runners: Mapping[str, Runner],
    dataset: Dataset,
    task: Task | None,
    options: EvaluateOptions,
    reference: Runner | None,
) -> tuple[dict[str, Measurement], int]:
    """Run every sample through every runner once; memory does not grow with the samples.

    Returns:
        Measurement by the runner's label, and how many samples were seen.

    Raises:
        AccelError: ``data.empty`` when there was no sample, ``data.sample`` for a bad one, ``evaluate.outputs``
            when reference and runner share no output.
    """
    plans = {
        label: _Plan(
            Measurement(runner, task.meter() if task else None),
            reference,
            options.layers,
            # Axis 1 of a detector's outputs is no class axis: an agreement there would mean nothing.
            classes=getattr(task, "agreement", True),
        )
        for label, runner in runners.items()
    }
    fetched = _union([plan.reference_fetch for plan in plans.values()])
    inner = frozenset(name for plan in plans.values() for name in plan.result.layers)
    size = max([1, *(batch_size(r.inputs) for r in runners.values())])
    total = min(options.samples, len(dataset)) if options.samples else len(dataset)
    samples: Iterable[Sample] = dataset
    seen = 0
    with step("evaluate", total) as progress:
        for group in batches(itertools.islice(samples, total), size):
            expected = run_samples(reference, group, fetched, inner) if reference and fetched else []
            for plan in plans.values():
                plan.take(group, expected, task)
            seen += len(group)
            progress.advance(len(group))
    if not seen:
        raise AccelError("the data set gave no sample to evaluate", code="data.empty", stage="evaluate")
    return {label: plan.result for label, plan in plans.items()}, seen


class _Plan:
    """What to fetch from one runner and where to put it."""

    def __init__(self, result: Measurement, reference: Runner | None, layers: bool, *, classes: bool = True) -> None:
        self.result = result
        self.reference_fetch: tuple[str, ...] = ()
        self.fetch: tuple[str, ...] | None = None
        if reference is None:
            return
        theirs = [spec.name for spec in reference.outputs]
        ours = {spec.name for spec in result.runner.outputs}
        shared = [name for name in theirs if name in ours]
        if not shared:
            raise AccelError(
                "the artifact and the float model share no output",
                code="evaluate.outputs",
                stage="evaluate",
                cause=f"float has {', '.join(theirs)}; the artifact has {', '.join(sorted(ours))}",
                hints=["Compare with the model that the artifact was built from."],
            )
        result.notes += [
            f"the output {name} of the float model is not in the artifact" for name in theirs if name not in ours
        ]
        result.outputs = {name: TensorComparison(name, classes=classes) for name in shared}
        self.reference_fetch = tuple(shared)
        if layers:
            self._add_layers(reference, shared)

    def _add_layers(self, reference: Runner, shared: Sequence[str]) -> None:
        runner = self.result.runner
        visible = set(runner.layers())
        inner = [name for name in reference.layers() if name in visible]
        if not inner:
            self.result.notes.append(f"{runner.device} shows no inner tensors: layers are not compared")
            return
        self.result.layers = {name: TensorComparison(name) for name in inner}
        self.reference_fetch = (*inner, *shared)
        self.fetch = _union([inner, [spec.name for spec in runner.outputs]])

    def take(self, group: Sequence[Sample], expected: Sequence[Mapping[str, np.ndarray]], task: Task | None) -> None:
        found = run_samples(self.result.runner, group, self.fetch, self.result.layers)
        for sample, values in zip(group, found, strict=True):
            if task is not None and self.result.meter is not None:
                final = {spec.name: values[spec.name] for spec in self.result.runner.outputs}
                self.result.meter.add(task.decode(final, sample), sample)
        for sample, values, wanted in zip(group, found, expected, strict=False):
            for compared in (*self.result.outputs.values(), *self.result.layers.values()):
                if compared.name in wanted and compared.name in values:
                    compared.add(wanted[compared.name], values[compared.name], sample.name)
                else:
                    compared.mismatch = compared.mismatch or "it does not divide into the batch"


def _union(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))

"""The streaming pass: samples in, statistics out; may be stopped and taken up again."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accel import progress
from accel.builtin.calibrators.measuring import Network, Worker
from accel.builtin.calibrators.tensors import Plan, plan
from accel.calibration import Calibration, TensorStatistics
from accel.calibration.histogram import merged
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.dataset import Dataset, Sample
    from accel.model import Model
    from accel.options import CalibrateOptions

MAX_THREADS = 4
"""Rows measured side by side, at most; half of the cores are left to whoever decodes the samples."""

SAVE_SECONDS = 10.0
"""How often partial statistics are written when ``CalibrateOptions.resume`` is given."""


def collect(model: Model, dataset: Dataset, options: CalibrateOptions) -> Calibration:
    """Measure the activations of ``model`` over ``dataset``.

    The result is the same to the bit for any order of the samples, any batch they come in, any number of
    threads, and with any number of interruptions.

    Raises:
        AccelError: ``data.empty`` without samples; ``data.sample`` for one that does not fit the inputs;
            ``calibration.mismatch`` when ``options.resume`` holds statistics of another model, other data or other
            options; ``calibration.nonfinite`` when a tensor never has a finite value; ``unsupported.batch``.
    """
    from accel.builtin.prepare.batch import set_batch

    single = set_batch(model, 1) if any(isinstance(d, int) and d > 1 for d in _batches(model)) else model
    chosen = plan(single)
    network = Network(single, chosen, options.values)
    total = min(len(dataset), options.samples) if options.samples else len(dataset)
    pass_ = _Pass(model, dataset, options, network)
    done = pass_.resume()
    if done:
        progress.message(f"calibrate: {done} of {total} samples were measured before; going on from there")
    with progress.step("calibrate", total) as step:
        step.at(min(done, total))
        for count in pass_.samples(itertools.islice(dataset, options.samples or None)):
            step.at(count)
    return _finish(pass_.statistics(), chosen)


class _Pass:
    """Feeds samples to the workers and keeps count of what they have measured."""

    def __init__(self, model: Model, dataset: Dataset, options: CalibrateOptions, network: Network) -> None:
        self.model, self.options, self.network = model, options, network
        self.data_digest = dataset.digest
        self.done = 0
        self._before: Mapping[str, TensorStatistics] = {}
        self._threads = max(1, min(MAX_THREADS, _cores() // 2))
        self._workers = [Worker(network, options.values, per_channel=options.per_channel) for _ in range(self._threads)]
        self._idle = deque(self._workers)

    def resume(self) -> int:
        """Take up what an earlier run saved; how many samples that were."""
        path = self.options.resume
        if path is None or not path.exists():
            return 0
        found = Calibration.load(path)
        wrong = [
            what
            for what, fits in (
                ("another model", found.model_digest == self.model.digest),
                ("other data", found.data_digest == self.data_digest),
                ("another number of values per tensor", found.values == self.options.values),
                ("other tensors", list(found.tensors) == list(self.network.plan.measured)),
                ("more samples than asked for", not 0 < self.options.samples < found.samples),
            )
            if not fits
        ]
        if wrong:
            raise AccelError(
                f"{path} cannot be resumed",
                code="calibration.mismatch",
                stage="calibrate",
                cause=f"it holds partial statistics of {wrong[0]}",
                hints=[f"Delete it to start again: {path}"],
            )
        self._before, self.done = found.tensors, found.samples
        return self.done

    def samples(self, given: Iterator[Sample]) -> Iterator[int]:
        """Measure all but those done before; yields how many are done."""
        running: deque[Future[None]] = deque()
        rest = itertools.islice(given, self.done, None)
        saved_at = time.monotonic()
        pool: Executor = ThreadPoolExecutor(self._threads, "accel-calibrate") if self._threads > 1 else _Inline()
        with pool:
            try:
                for sample in rest:
                    rows = list(_rows(self.model, sample))
                    running.append(pool.submit(self._measure, sample.name, rows))
                    # One more than there are threads, so that none waits for the next sample to be read.
                    while len(running) > (self._threads if self._threads > 1 else 0):
                        yield self._settle(running)
                    if self.options.resume and time.monotonic() - saved_at > SAVE_SECONDS:
                        while running:
                            yield self._settle(running)
                        self._save(self.options.resume)
                        saved_at = time.monotonic()
                while running:
                    yield self._settle(running)
            except KeyboardInterrupt:
                while running:
                    self._settle(running)
                if self.options.resume:
                    self._save(self.options.resume)
                raise
        if self.options.resume:
            self._save(self.options.resume)

    def statistics(self) -> Calibration:
        """What all workers, and the runs before, have seen."""
        if not self.done:
            raise AccelError(
                "there is nothing to calibrate with",
                code="data.empty",
                stage="calibrate",
                cause="the data set gave no sample",
                hints=["Give a folder with pictures or arrays: --data FOLDER"],
            )
        for worker in self._workers:
            worker.flush()
        tensors = {}
        for name in self.network.plan.measured:
            parts = [worker.tensors[name].statistics() for worker in self._workers]
            if name in self._before:
                parts.append(self._before[name])
            seen = [part for part in parts if part.count or part.nonfinite] or parts[:1]
            tensors[name] = functools.reduce(merged, seen)
        return Calibration(self.model.digest, self.data_digest, self.done, tensors, self.options.values)

    def _measure(self, name: str, rows: list[dict[str, np.ndarray]]) -> None:
        worker = self._idle.pop()
        try:
            for row in rows:
                worker.take(row)
        except AccelError:
            raise
        except Exception as error:  # onnxruntime raises its own kinds, all bare
            raise AccelError(
                f"the network cannot run on sample {name}",
                code="failed.calibrate",
                stage="calibrate",
                cause=str(error).splitlines()[0],
            ) from error
        finally:
            self._idle.append(worker)

    def _settle(self, running: deque[Future[None]]) -> int:
        running[0].result()
        running.popleft()
        self.done += 1
        return self.done

    def _save(self, path: Path) -> None:
        if self.done:
            self.statistics().save(path)


class _Inline(Executor):
    """Does the work at once, in the caller's thread: with one worker, handing rows over only costs."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def _rows(model: Model, sample: Sample) -> Iterator[dict[str, np.ndarray]]:
    """Feeds of batch 1, checked against the inputs.

    Raises:
        AccelError: ``data.sample``, naming the sample and the input.
    """
    names = [spec.name for spec in model.inputs]
    if set(sample.inputs) != set(names):
        raise _misfit(sample, f"it has inputs {sorted(sample.inputs)}, the network has {sorted(names)}")
    counts: set[int] = set()
    for spec in model.inputs:
        array = sample.inputs[spec.name]
        if array.dtype.name != spec.dtype:
            raise _misfit(sample, f"input {spec.name!r} is {array.dtype.name}, the network takes {spec.dtype}")
        fits = array.ndim == len(spec.shape) and all(
            not isinstance(want, int) or want == have
            for want, have in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or not array.size:
            raise _misfit(sample, f"input {spec.name!r} has shape {array.shape}, the network takes {spec}")
        counts.update(array.shape[:1])
    if len(counts) > 1:
        raise _misfit(sample, f"its inputs have different batches: {sorted(counts)}")
    for at in range(counts.pop() if counts else 1):
        yield {name: np.ascontiguousarray(sample.inputs[name][at : at + 1]) for name in names}


def _misfit(sample: Sample, cause: str) -> AccelError:
    return AccelError(
        f"sample {sample.name} does not fit the network", code="data.sample", stage="calibrate", cause=cause
    )


def _finish(found: Calibration, chosen: Plan) -> Calibration:
    """Statistics by every tensor's name; complaints about values that are no numbers."""
    bad = [stats for stats in found.tensors.values() if stats.nonfinite]
    for stats in bad:
        if not stats.count:
            raise AccelError(
                f"tensor {stats.name!r} never has a finite value",
                code="calibration.nonfinite",
                stage="calibrate",
                cause=f"all its {stats.nonfinite} values are NaN or infinite",
                node=chosen.producers.get(stats.name, ""),
                hints=["Look for NaN in the weights and in the samples, and for overflow before this node."],
            )
    if bad:
        first = bad[0]
        progress.message(
            f"calibrate: {len(bad)} tensors hold NaN or infinities, which are left out; the first is {first.name!r} "
            f"({first.nonfinite} of {first.nonfinite + first.count} values)"
        )
    tensors = {}
    for name in chosen.names:
        source = chosen.same_as.get(name, name)
        if source == name:
            tensors[name] = found.tensors[name]
        else:
            tensors[name] = replace(
                found.tensors[source], name=name, channel_low=None, channel_high=None, channel_sum=None, rows=0
            )
    return replace(found, tensors=tensors)


def _batches(model: Model) -> list[int | str]:
    return [spec.shape[0] for spec in model.inputs if spec.shape]


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1

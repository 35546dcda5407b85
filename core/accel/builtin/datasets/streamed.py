"""A data set that is read sample by sample: decoded by several threads, a few samples ahead, in a fixed order."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from accel.dataset import Sample
from accel.errors import AccelError


class Source(Protocol):
    """Random access to the samples of a data set; ``load`` is called from several threads."""

    labels: tuple[str, ...]
    """Class names by index, or ()."""
    notes: tuple[str, ...]
    """What was decided on opening and the user should know, a line each."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def load(self, index: int) -> Sample:
        """Read one sample; AccelError ``data.sample`` when it is bad."""
        ...

    def fingerprint(self, index: int) -> bytes:
        """SHA-256 over the contents and the label of one sample."""
        ...

    def settings(self) -> str:
        """Everything else that decides what ``load`` gives (preprocessing, shapes)."""
        ...


class StreamedDataset:
    """A :class:`~accel.dataset.Dataset` over a :class:`Source`.

    Args:
        source: Where the samples come from.
        skip_bad: Leave bad samples out (``skipped`` names them) instead of stopping.
        limit: At most this many samples, from the first on; 0 means all.
        threads: Decoding threads; 0: one a core, at most 8.

    Attributes:
        skipped: Reason by name of the samples that the reading so far has left out.
    """

    def __init__(self, source: Source, *, skip_bad: bool = False, limit: int = 0, threads: int = 0) -> None:
        self.source = source
        self.skip_bad = skip_bad
        self.threads = threads or min(8, os.cpu_count() or 1)
        self.skipped: dict[str, str] = {}
        self._limit = limit
        self._digest = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by index, or ()."""
        return self.source.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided on opening, then the skipped samples: a line each."""
        return (*self.source.notes, *(f"skipped {name}: {reason}" for name, reason in self.skipped.items()))

    def __len__(self) -> int:
        """Samples there are; with ``skip_bad`` fewer may be given."""
        return min(self._limit, len(self.source)) if self._limit else len(self.source)

    def __iter__(self) -> Iterator[Sample]:
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="accel-decode")
        waiting: deque[tuple[int, Future[Sample]]] = deque()
        order = iter(range(len(self)))
        try:
            for index in itertools.islice(order, self.threads * 2):
                waiting.append((index, pool.submit(self.source.load, index)))
            while waiting:
                index, future = waiting.popleft()
                sample = self._result(index, future)
                for following in itertools.islice(order, 1):
                    waiting.append((following, pool.submit(self.source.load, following)))
                if sample is not None:
                    yield sample
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _result(self, index: int, future: Future[Sample]) -> Sample | None:
        try:
            return future.result()
        except AccelError as error:
            if not self.skip_bad or error.code != "data.sample":
                raise
            self.skipped[self.source.name(index)] = error.cause or error.summary
            return None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over names, contents, labels, preprocessing and order."""
        if not self._digest:
            whole = hashlib.sha256(self.source.settings().encode())
            with ThreadPoolExecutor(self.threads) as pool:
                for index, content in enumerate(pool.map(self.source.fingerprint, range(len(self)))):
                    whole.update(self.source.name(index).encode(errors="surrogateescape") + b"\0" + content)
            self._digest = whole.hexdigest()
        return self._digest

    def skipping_bad(self) -> StreamedDataset:
        """The same samples, the bad ones left out."""
        return StreamedDataset(self.source, skip_bad=True, limit=self._limit, threads=self.threads)

    def take(self, count: int) -> StreamedDataset:
        """The first ``count`` samples; 0 means all."""
        return StreamedDataset(self.source, skip_bad=self.skip_bad, limit=count, threads=self.threads)


def file_fingerprint(path: Path, extra: object = None) -> bytes:
    """SHA-256 over a file's bytes and ``repr(extra)``; of the reason when it cannot be read."""
    digest = hashlib.sha256(repr(extra).encode())
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        digest.update(f"unreadable {error.errno}".encode())
    return digest.digest()

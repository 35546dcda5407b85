"""Progress without a terminal library: stages say how far they are, the CLI decides how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class ProgressSink(Protocol):
    """Where progress goes. The CLI installs one that draws; the default drops everything."""

    def start(self, label: str, total: int | None) -> object: ...

    def advance(self, token: object, done: int, total: int | None, note: str) -> None: ...

    def finish(self, token: object) -> None: ...

    def message(self, text: str) -> None: ...


class _Silent:
    def start(self, label: str, total: int | None) -> object:
        return None

    def advance(self, token: object, done: int, total: int | None, note: str) -> None:
        return None

    def finish(self, token: object) -> None:
        return None

    def message(self, text: str) -> None:
        return None


_SILENT: ProgressSink = _Silent()
_sink: ContextVar[ProgressSink] = ContextVar("accel_progress", default=_SILENT)
_subject: ContextVar[str] = ContextVar("accel_progress_subject", default="")


@contextmanager
def use_sink(sink: ProgressSink) -> Iterator[None]:
    """Send the progress of the block to ``sink``."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Add ``subject`` to the labels of the steps in the block: which of several artifacts is at work."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


class Step:
    """One running piece of work."""

    def __init__(self, sink: ProgressSink, token: object, total: int | None) -> None:
        self._sink, self._token, self.total, self.done = sink, token, total, 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done."""
        self.done += count
        self._sink.advance(self._token, self.done, self.total, note)

    def at(self, done: int, total: int | None = None, note: str = "") -> None:
        """Set the position (a vendor's own percentage, for example)."""
        self.done, self.total = done, total if total is not None else self.total
        self._sink.advance(self._token, self.done, self.total, note)


@contextmanager
def step(label: str, total: int | None = None) -> Iterator[Step]:
    """Show ``label`` with a bar of ``total`` units (or a spinner) while the block runs."""
    sink = _sink.get()
    token = sink.start(" ".join(filter(None, (label, _subject.get()))), total)
    try:
        yield Step(sink, token, total)
    finally:
        sink.finish(token)


def message(text: str) -> None:
    """One line that the user should see but that is no result (goes to standard error)."""
    _sink.get().message(text)

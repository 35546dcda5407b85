"""Progress on standard error: one redrawn line on a terminal, sparse lines in a log."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from dataclasses import dataclass
from typing import TextIO

from accel.cli.console import state

_REDRAW = 0.1
_SPARSE = 15.0
"""Seconds between two lines about the same step where no terminal is."""


@dataclass(eq=False)
class _Token:
    label: str
    started: float
    told: float
    done: int = 0
    total: int | None = None
    note: str = ""
    shown: bool = False


class TerminalSink:
    """Draws the innermost running step on the last line; steps of parallel builds share it."""

    def __init__(self, stream: TextIO | None = None, *, tty: bool | None = None, after: float = 1.0) -> None:
        self.stream = stream or sys.stderr
        self.tty = self.stream.isatty() if tty is None else tty
        self.after = after
        self._steps: list[_Token] = []
        self._drawn = False
        self._last = 0.0
        self._lock = threading.RLock()
        self._ticking = False

    def start(self, label: str, total: int | None) -> object:
        now = time.monotonic()
        token = _Token(label, now, now, total=total)
        with self._lock:
            self._steps.append(token)
            self._draw(force=True)
            if self.tty and not self._ticking:
                self._ticking = True
                threading.Thread(target=self._tick, daemon=True).start()
        return token

    def _tick(self) -> None:
        """Keep the seconds running while a step has nothing to say."""
        while True:
            time.sleep(0.5)
            with self._lock:
                if not self._steps:
                    self._ticking = False
                    return
                self._draw()

    def advance(self, token: object, done: int, total: int | None, note: str) -> None:
        assert isinstance(token, _Token)
        with self._lock:
            token.done, token.total, token.note = done, total, note
            if self.tty:
                self._draw()
            elif time.monotonic() - token.told > (_SPARSE if token.shown else self.after):
                token.told, token.shown = time.monotonic(), True
                self._line(self._describe(token))

    def finish(self, token: object) -> None:
        assert isinstance(token, _Token)
        with self._lock:
            if token in self._steps:
                self._steps.remove(token)
            seconds = time.monotonic() - token.started
            if seconds >= self.after or token.shown:
                failed = sys.exc_info()[0] is not None
                self._line(f"{token.label}: {'stopped after ' if failed else ''}{seconds:.1f} s")
            self._draw(force=True)

    def message(self, text: str) -> None:
        with self._lock:
            if text in state.messages:
                return
            state.messages.append(text)
            self._line(text)
            self._draw(force=True)

    def close(self) -> None:
        """Leave a clean line."""
        # Ctrl-C may come while the lock is held by the drawing it interrupts; it is reentrant.
        with self._lock:
            self._steps.clear()
            self._erase()

    def _line(self, text: str) -> None:
        self._erase()
        self.stream.write(text + "\n")
        self.stream.flush()

    def _draw(self, *, force: bool = False) -> None:
        if not self.tty:
            return
        now = time.monotonic()
        if not force and now - self._last < _REDRAW:
            return
        self._last = now
        self._erase()
        if not self._steps:
            return
        # The innermost step is what happens now; a parallel build's name stands before it.
        text = self._describe(self._steps[-1])
        columns = shutil.get_terminal_size().columns
        self.stream.write(text[: columns - 1])
        self.stream.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write("\r\x1b[2K")
            self._drawn = False

    def _describe(self, token: _Token) -> str:
        parts = [token.label]
        if token.total:
            share = min(1.0, token.done / token.total)
            if self.tty:
                filled = round(20 * share)
                parts.append("[" + "#" * filled + "." * (20 - filled) + "]")
            parts.append(f"{token.done}/{token.total}")
            seconds = time.monotonic() - token.started
            if token.done and seconds > 3 and share < 1:
                parts.append(f"{seconds / share - seconds:.0f} s left")
        elif token.done:
            parts.append(str(token.done))
        if not token.total:
            parts.append(f"{time.monotonic() - token.started:.0f} s")
        if token.note:
            parts.append(token.note)
        return " ".join(parts)


class QuietSink:
    """``--quiet``: messages are kept for ``--json`` only."""

    def start(self, label: str, total: int | None) -> object:
        return None

    def advance(self, token: object, done: int, total: int | None, note: str) -> None:
        return None

    def finish(self, token: object) -> None:
        return None

    def message(self, text: str) -> None:
        if text not in state.messages:
            state.messages.append(text)

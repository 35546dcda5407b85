"""What the user sees: one result on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accel.errors import AccelError

WIDTH = 80


@dataclass
class State:
    """Flags that stand before or after any command."""

    json: bool = False
    debug: bool = False
    quiet: bool = False
    command: str = ""
    line: str = ""
    """The command line as it was typed, for "again:" in reports."""
    messages: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Forget the last command (tests run several in one process)."""
        self.json = self.debug = self.quiet = False
        self.command = self.line = ""
        self.messages = []


state = State()


def emit(result: Mapping[str, Any], text: Callable[[], str], failure: AccelError | None = None) -> None:
    """Print the result of a command: ``text()`` for people, one JSON object with ``--json``.

    Args:
        result: Plain values, data classes and paths.
        text: Made only when it is shown.
        failure: The work was done and fell short (accuracy below the bar): shown with the result, then raised.
    """
    if state.json:
        if failure is None:
            write_json({"ok": True, "command": state.command, **_plain(result), "messages": state.messages})
            return
        raise ReportedError(failure, {"ok": False, "command": state.command, **_plain(result)})
    shown = text()
    if shown:
        print(shown)
    if failure is not None:
        sys.stdout.flush()
        raise failure


class ReportedError(AccelError):
    """A failure that still has a result: both go into one JSON object."""

    def __init__(self, error: AccelError, payload: Mapping[str, Any]) -> None:
        super().__init__(
            error.summary, code=error.code, stage=error.stage, cause=error.cause, node=error.node, hints=error.hints
        )
        self.payload = payload


def emit_error(error: AccelError) -> None:
    """Print a failure: a few lines on standard error, or the JSON object."""
    if state.json:
        payload = error.payload if isinstance(error, ReportedError) else {"ok": False, "command": state.command}
        write_json({**payload, "error": error.as_dict(), "messages": state.messages})
        return
    lines = format_error(error).splitlines()
    if sys.stderr.isatty():
        from shutil import get_terminal_size

        lines = [folded(line, 9, get_terminal_size().columns) for line in lines]
    print("\n".join(lines), file=sys.stderr)


def format_error(error: AccelError) -> str:
    """The error as a person reads it: what, why, where, what next; a line each."""
    where = f" [{error.stage}]" if error.stage else ""
    lines = [f"error{where}: {error.summary}"]
    if error.cause:
        lines.append(f"  cause: {error.cause}")
    if error.node:
        lines.append(f"  node:  {error.node}")
    lines += [f"  hint:  {hint}" for hint in error.hints]
    if error.log is not None:
        lines.append(f"  log:   {error.log}")
    return "\n".join(lines)


def wrapped(label: str, text: str) -> str:
    """``label: text``, folded at words on a terminal and one line in a file."""
    line = f"{label}: {text}"
    if not sys.stdout.isatty():
        return line
    from shutil import get_terminal_size
    from textwrap import fill

    columns = max(40, get_terminal_size().columns)
    return fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def folded(line: str, indent: int = 4, width: int | None = None) -> str:
    """A long line broken at words, the rest indented; None: as wide as a table may be."""
    from textwrap import fill

    return fill(
        line, width or screen_width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def write_json(value: Any) -> None:
    """One JSON object on one line; a NaN becomes null, as JSON has none."""
    import json

    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Columns padded with two spaces between them; the widest text columns give way.

    Args:
        columns: Headings.
        rows: A cell a column; numbers are aligned to the right.
        width: At most so many characters; None: 80, or the terminal's width where that is more.
    """
    width = width or screen_width()
    cells = [[_cell(v) for v in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(r[c], (int, float)) or r[c] is None for r in rows) for c in range(len(columns))
    ]
    sizes = [max([len(columns[c]), *(len(r[c]) for r in cells)]) for c in range(len(columns))]
    while sum(sizes) + 2 * (len(sizes) - 1) > width:
        widest = max((c for c in range(len(sizes)) if not numeric[c]), key=lambda c: sizes[c], default=None)
        if widest is None or sizes[widest] <= 12:
            break
        sizes[widest] -= 1
    lines = []
    for row in [list(columns), *cells]:
        parts = [
            _cut(v, s).rjust(s) if numeric[c] else _cut(v, s).ljust(s)
            for c, (v, s) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def wide_table(columns: Sequence[str], rows: Sequence[Sequence[object]], keys: int, width: int | None = None) -> str:
    """:func:`table`, continued below where it is too wide: every part begins with the first ``keys`` columns."""
    width = width or screen_width()
    sizes = [max(len(name), *(len(_cell(row[c])) for row in rows)) + 2 for c, name in enumerate(columns)]
    room = width + 2 - sum(sizes[:keys])
    parts: list[list[int]] = [[]]
    for c in range(keys, len(columns)):
        if parts[-1] and sum(sizes[at] for at in parts[-1]) + sizes[c] > room:
            parts.append([])
        parts[-1].append(c)
    chosen = [[*range(keys), *part] for part in parts]
    return "\n\n".join(table([columns[c] for c in part], [[row[c] for c in part] for row in rows]) for part in chosen)


def screen_width() -> int:
    """80, or the width of the terminal that standard output is, if that is more."""
    if not sys.stdout.isatty():
        return WIDTH
    from shutil import get_terminal_size

    return max(WIDTH, get_terminal_size().columns)


def size(count: float) -> str:
    """Bytes as a person reads them, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"


def number(value: object) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return str(value)
    magnitude = abs(value)
    if magnitude and (magnitude < 1e-3 or magnitude >= 1e6):
        return f"{value:.3g}"
    return f"{value:.4f}" if magnitude < 10 else f"{value:.1f}"


def shown(path: object) -> str:
    """A path relative to here where that is shorter."""
    text = str(path)
    here = os.path.relpath(text) if os.path.isabs(text) else text  # noqa: PTH117
    return here if len(here) < len(text) else text


def _cell(value: object) -> str:
    return number(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 2)] + ".."


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value, enc_hook=_other)


def _other(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value

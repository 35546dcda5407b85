"""The one error class of the driver, and the exit codes it maps to.

Every failure a user can meet ends as one :class:`AccelError`: the same object is printed on the
terminal, written by ``--json`` and raised from the Python functions.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any


class ExitCode(IntEnum):
    """What the process returns; scripts and CI branch on these."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNSUPPORTED = 3
    TOOLCHAIN = 4
    ACCURACY = 5
    INTERRUPTED = 130


# The first word of an error code decides the exit code; all others mean FAILED.
_EXIT_CODES = {
    "usage": ExitCode.USAGE,
    "unsupported": ExitCode.UNSUPPORTED,
    "toolchain": ExitCode.TOOLCHAIN,
    "accuracy": ExitCode.ACCURACY,
    "interrupted": ExitCode.INTERRUPTED,
}


class AccelError(Exception):
    """A failure with a cause and a next step.

    Args:
        summary: One line: what could not be done, naming the file or option.
        code: Dotted and stable, e.g. ``model.truncated``. The first word picks the exit code:
            ``usage`` 2, ``unsupported`` 3, ``toolchain`` 4, ``accuracy`` 5, anything else 1.
        stage: The stage that failed (``parse``, ``build`` ...); the driver fills it in if empty.
        cause: Why, in the words of whoever knows (a vendor's last error line, for example).
        node: The graph node at fault, by name.
        hints: Next steps, most useful first, each a complete sentence or command.
        log: The full log of a subprocess, if there is one.
    """

    def __init__(
        self,
        summary: str,
        *,
        code: str = "failed",
        stage: str = "",
        cause: str = "",
        node: str = "",
        hints: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.code = code
        self.stage = stage
        self.cause = cause
        self.node = node
        self.hints = tuple(hints)
        self.log = log

    @property
    def exit_code(self) -> ExitCode:
        """The process exit code that belongs to ``code``."""
        return _EXIT_CODES.get(self.code.split(".", 1)[0], ExitCode.FAILED)

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` object of ``--json`` output."""
        return {
            "code": self.code,
            "stage": self.stage,
            "summary": self.summary,
            "cause": self.cause,
            "node": self.node,
            "hints": list(self.hints),
            "log": str(self.log) if self.log else None,
            "exit_code": int(self.exit_code),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Builds run in worker processes; the error must cross back with its fields.
        return (_rebuild, (self.summary, self.code, self.stage, self.cause, self.node, self.hints, self.log))


def _rebuild(
    summary: str, code: str, stage: str, cause: str, node: str, hints: tuple[str, ...], log: Path | None
) -> AccelError:
    return AccelError(summary, code=code, stage=stage, cause=cause, node=node, hints=hints, log=log)


@dataclass(frozen=True)
class ErrorHint:
    """A vendor's message and what to do about it.

    ``pattern`` is a regular expression searched (not matched) in the tool's output; its named
    group ``node``, if it has one, becomes :attr:`AccelError.node`. ``hint`` and ``summary`` may
    use the pattern's groups as ``{name}``.
    """

    pattern: str
    summary: str
    hint: str = ""
    code: str = ""


@contextmanager
def stage(name: str, hints: Callable[[], Iterable[ErrorHint]] | None = None) -> Iterator[None]:
    """Run one stage: whatever it raises leaves as an :class:`AccelError` that names it.

    Args:
        name: ``parse``, ``calibrate``, ``build``, ``run``, ``evaluate`` ...
        hints: Gives the vendor's known messages; they are searched in the cause and the log.
    """
    try:
        yield
    except AccelError as error:
        error.stage = error.stage or name
        if hints is not None:
            explain(error, hints())
        raise
    except BrokenPipeError:
        raise  # whoever read our output has gone; nothing failed
    except OSError as error:
        raise from_os_error(error, name) from error
    except MemoryError as error:
        raise AccelError(
            f"{name or 'the command'} ran out of memory",
            code="failed.memory",
            stage=name,
            hints=["Close other programs, or use a machine with more memory."],
        ) from error
    except RecursionError as error:
        raise AccelError(
            f"{name or 'the command'} failed", code="failed.nesting", stage=name, cause="the input is nested too deeply"
        ) from error
    except Exception as error:
        raise AccelError(
            f"{name or 'the command'} failed in a way accel does not know",
            code="failed.internal",
            stage=name,
            cause=f"{type(error).__name__}: {error}",
            hints=["Run it again with --debug and report the trace."],
        ) from error


def from_os_error(error: OSError, name: str = "") -> AccelError:
    """What the operating system refused, in our form."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return AccelError(
            f"the disk is full{where}",
            code="failed.disk-full",
            stage=name,
            cause=error.strerror or str(error),
            hints=["Free some space and run it again.", "`accel cache clean` empties the build cache."],
        )
    code = {
        errno.ENOENT: "usage.missing-file",
        errno.EACCES: "usage.permission",
        errno.EPERM: "usage.permission",
        errno.EROFS: "usage.permission",
        errno.EISDIR: "usage.is-a-folder",
        errno.ENOTDIR: "usage.not-a-folder",
        errno.ENAMETOOLONG: "usage.name",
    }.get(error.errno or 0, "failed.os")
    return AccelError(
        f"{error.strerror or error}{where}", code=code, stage=name, cause=type(error).__name__ if not where else ""
    )


def explain(error: AccelError, hints: Iterable[ErrorHint]) -> None:
    """Add what the plugins know about the messages in ``error.cause`` and its log."""
    text = "\n".join([error.summary, error.cause, _tail(error.log)])
    for hint in hints:
        found = re.search(hint.pattern, text)
        if found is None:
            continue
        groups = {k: v or "" for k, v in found.groupdict().items()}
        if hint.hint and _fill(hint.hint, groups) in error.hints:
            return  # the plugin has said so itself
        error.node = error.node or groups.get("node", "")
        if hint.code:
            error.code = hint.code
        if hint.summary:
            error.cause = "; ".join(filter(None, [_fill(hint.summary, groups), error.cause]))
        if hint.hint:
            error.hints = (_fill(hint.hint, groups), *error.hints)
        return


def _fill(text: str, groups: dict[str, str]) -> str:
    try:
        return text.format(**groups)
    except (KeyError, IndexError, ValueError):
        return text


def _tail(log: Path | None, size: int = 200_000) -> str:
    """The last ``size`` bytes of a log; the full one is named in the error."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""

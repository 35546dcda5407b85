"""The one error class of the driver, and the exit codes it maps to.

Every failure a user can meet ends as one :class:`AccelError`: the same object is printed on the
terminal, written by ``--json`` and raised from the Python functions.
"""

from __future__ import annotations

from collections.abc import Sequence
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

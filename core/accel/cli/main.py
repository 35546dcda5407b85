"""Entry point of the ``accel`` command: global flags, errors, exit codes, signals."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from accel.cli import console
from accel.cli.names import COMPLETE
from accel.errors import AccelError, ExitCode, stage
from accel.progress import use_sink

_FLAGS = {"--json": "json", "--debug": "debug", "-q": "quiet", "--quiet": "quiet"}
_BROKEN_PIPE = 128 + signal.SIGPIPE


class Terminated(KeyboardInterrupt):
    """SIGTERM, unwound like Ctrl-C so that nothing half-written stays."""


def main() -> NoReturn:
    """Run the command line and leave with an exit code of :class:`accel.errors.ExitCode`."""
    signal.signal(signal.SIGTERM, _terminate)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _BROKEN_PIPE
    # Threads of a build that was broken off must not hold the process.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command in this process.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code.
    """
    if question := os.environ.get(COMPLETE):
        from accel.cli.completion import answer

        return answer(question)
    arguments = take_flags(arguments)
    sink = _sink()
    try:
        with use_sink(sink):
            _invoke(arguments)
    except AccelError as error:
        _close(sink)
        _trace(error)
        console.emit_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt as error:
        _close(sink)
        _stop_everything()
        return _interrupted(isinstance(error, Terminated))
    except BrokenPipeError:
        # Whoever read us has enough; a second flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    finally:
        _close(sink)
    return int(ExitCode.DONE)


def take_flags(arguments: list[str]) -> list[str]:
    """Note ``--json``, ``--debug`` and ``--quiet`` wherever they stand before ``--``; return the rest."""
    console.state.reset()
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = []
    for at, word in enumerate(arguments):
        if at < end and word in _FLAGS:
            setattr(console.state, _FLAGS[word], True)
        else:
            rest.append(word)
    console.state.line = shlex.join(["accel", *rest])
    console.state.command = next((w for w in rest if not w.startswith("-")), "")
    return rest


def _invoke(arguments: list[str]) -> None:
    import typer
    from typer.main import get_command

    from accel.cli.app import app

    usage_error: type[Exception] = typer.BadParameter.__bases__[0]  # Typer exports it by no other name
    command = get_command(app)
    with stage(""):
        # Not app(): it would turn Ctrl-C and a broken pipe into exceptions and exit codes of its own.
        try:
            with command.make_context("accel", arguments or ["--help"]) as context:
                command.invoke(context)
        except typer.Exit as leave:
            if leave.exit_code:
                raise AccelError("stopped", code="usage") from leave
        except usage_error as error:
            raise _usage(error) from error


def _usage(error: Any) -> AccelError:
    """Typer's complaint about the command line as one of ours."""
    context, parameter = error.ctx, getattr(error, "param", None)
    at = context.command_path if context is not None else f"accel {console.state.command}"
    hints = [f"{at} --help"]
    if parameter is not None and parameter.help:
        hints.insert(0, f"{parameter.get_help_record(context)[0]}: {parameter.help}")
    commands = getattr(context and context.command, "commands", None)
    if commands:
        hints.insert(0, f"Choose one of: {', '.join(commands)}.")
    return AccelError(" ".join(error.format_message().split()), code="usage.arguments", hints=hints)


def _sink() -> Any:
    from accel.cli.progress import QuietSink, TerminalSink

    return QuietSink() if console.state.quiet else TerminalSink()


def _close(sink: Any) -> None:
    if hasattr(sink, "close"):
        with contextlib.suppress(OSError, ValueError):
            sink.close()


def _trace(error: AccelError) -> None:
    if console.state.debug:
        import traceback

        traceback.print_exception(error)


def _stop_everything() -> None:
    """Kill the vendors' processes and delete what was being written."""
    from accel.files import remove_live_workspaces

    process = sys.modules.get("accel.toolchain.process")
    if process is not None:
        process.kill_all()
    remove_live_workspaces()


def _interrupted(terminated: bool) -> int:
    code = 128 + signal.SIGTERM if terminated else int(ExitCode.INTERRUPTED)
    console.emit_error(AccelError("interrupted; nothing half-done is left", code="interrupted"))
    return code


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated

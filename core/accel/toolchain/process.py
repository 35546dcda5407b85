"""Running a vendor's tool: argument list, own directory, own process group, full log, time limit, what it cost."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.spec import Environment

# What a tool may see of the user's environment. Everything else (PYTHONPATH, LD_LIBRARY_PATH, VIRTUAL_ENV ...)
# belongs to the driver's interpreter and breaks others.
_PASSED_ON = ("HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

_live: set[int] = set()
_live_lock = threading.Lock()


@dataclass(frozen=True)
class Completed:
    """A tool that has ended.

    Attributes:
        rc: Exit code; negative: minus the signal that ended it.
        log: Everything it wrote to stdout and stderr, in the order written.
        seconds: Wall time.
        cpu_seconds: User and system time of it and its children.
        peak_bytes: Resident memory of the largest of its processes.
    """

    rc: int
    log: Path
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def text(self) -> str:
        """The log as text; undecodable bytes are replaced."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines that are not empty."""
        return "\n".join([line for line in self.text().splitlines() if line.strip()][-lines:])


def tool_environ(env: Environment, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of a tool: a minimal set, then the toolchain's, then ``extra``."""
    variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    variables.update(PYTHONNOUSERSITE="1", PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    system = os.environ.get("PATH", os.defpath)
    variables.update(env.variables)
    variables["PATH"] = os.pathsep.join([*(str(p) for p in env.bin), env.variables.get("PATH", system)])
    variables.update(extra or {})
    return variables


def run(
    env: Environment,
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    log: Path,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    stage: str = "",
    variables: Mapping[str, str] | None = None,
) -> Completed:
    """Run a tool of ``env`` to its end. A non-zero exit code is returned, not raised.

    Args:
        env: The toolchain; its ``bin`` stands first on PATH.
        argv: Program and arguments; no shell sees them.
        cwd: Working directory.
        log: File that receives stdout and stderr; appended to, the command line first.
        timeout: Seconds of wall time.
        on_line: Called with every line (also those ended by a carriage return, as progress bars do).
        stage: For the error: the stage that is running.
        variables: More environment variables.

    Raises:
        AccelError: ``toolchain.broken`` when the program cannot be started, ``failed.timeout`` when it took too
            long, ``failed.disk`` when the log cannot be written. The whole process group is dead by then.
    """
    return spawn(argv, tool_environ(env, variables), cwd=cwd, log=log, timeout=timeout, on_line=on_line, stage=stage)


def spawn(
    argv: Sequence[str | Path],
    environ: Mapping[str, str],
    *,
    cwd: Path,
    log: Path,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    stage: str = "",
) -> Completed:
    """:func:`run` with the environment variables given in full."""
    command = [str(a) for a in argv]
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"$ {shlex.join(command)}\n".encode())
        sink.flush()
        process = start(command, environ, cwd=cwd, stage=stage)
        try:
            usage = _pump(process, sink.write, on_line, started + timeout if timeout else None)
            sink.flush()
        except BaseException as error:
            kill(process)
            if isinstance(error, TimeoutError):
                raise AccelError(
                    f"{Path(command[0]).name} did not end within {timeout:g} s",
                    code="failed.timeout",
                    stage=stage,
                    log=log,
                    hints=["Look at the end of the log; a smaller model or a longer time limit may help."],
                ) from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise AccelError(f"the disk is full: {log}", code="failed.disk", stage=stage) from error
            raise
        finally:
            forget(process)
            if process.stdout:
                process.stdout.close()
    # The leader has ended; children that it left behind must not go on writing into the working directory.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    scale = 1 if sys.platform == "darwin" else 1024
    rc = process.returncode if process.returncode is not None else -1
    seconds = time.monotonic() - started
    return Completed(rc, log, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


def start(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.STDOUT,
    stage: str = "",
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a process group of its own, known to :func:`kill_all`.

    Raises:
        AccelError: ``toolchain.broken`` when it cannot be started.
    """
    try:
        process = subprocess.Popen(
            list(command),
            env=dict(environ),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise AccelError(
            f"cannot start {command[0]}",
            code="toolchain.broken",
            stage=stage,
            cause=str(error),
            hints=["Run `accel doctor`; reinstall the toolchain if it says broken."],
        ) from error
    with _live_lock:
        _live.add(process.pid)
    return process


def forget(process: subprocess.Popen[bytes]) -> None:
    """The process has ended: :func:`kill_all` must not touch its (reusable) number any more."""
    with _live_lock:
        _live.discard(process.pid)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process group: politely first, then for good. Safe to call on one that has ended."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        _signal(process.pid, signal.SIGKILL)
        process.wait()
    forget(process)


def kill_all() -> None:
    """End every tool that this interpreter has started (Ctrl-C while builds run in threads)."""
    with _live_lock:
        pids = list(_live)
    for pid in pids:
        _signal(pid, signal.SIGKILL)


atexit.register(kill_all)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _pump(
    process: subprocess.Popen[bytes],
    write: Callable[[bytes], int],
    on_line: Callable[[str], None] | None,
    deadline: float | None,
) -> _Usage:
    """Copy output until the process has ended; return its resource usage. TimeoutError past the deadline."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    pending = b""
    usage: _Usage | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            wait = 0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))
            if selector.select(wait):
                chunk = os.read(pipe, 1 << 16)
                if not chunk:
                    break
                write(chunk)
                if on_line:
                    pending = _lines(pending + chunk, on_line)
            elif usage is not None:
                break  # ended, and a stray child holds the pipe open
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError
            if usage is None:
                usage = _reap(process, os.WNOHANG)
    if on_line and pending:
        on_line(pending.decode("utf-8", "replace"))
    while usage is None:
        # Output closed, still running: a tool that made itself a daemon, or one that is only slow to end.
        usage = _reap(process, os.WNOHANG)
        if usage is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(0.01)
    return usage


def _lines(data: bytes, on_line: Callable[[str], None]) -> bytes:
    *lines, rest = data.replace(b"\r", b"\n").split(b"\n")
    for line in lines:
        if line.strip():
            on_line(line.decode("utf-8", "replace"))
    return rest


@dataclass(frozen=True)
class _Usage:
    ru_utime: float
    ru_stime: float
    ru_maxrss: int


def _reap(process: subprocess.Popen[bytes], flags: int) -> _Usage | None:
    # wait4 and not Popen.wait: it gives the time and memory of the whole family.
    try:
        pid, state, usage = os.wait4(process.pid, flags)
    except ChildProcessError:  # somebody else's SIGCHLD handler was quicker
        process.returncode = -1
        return _Usage(0.0, 0.0, 0)
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(state)
    return _Usage(usage.ru_utime, usage.ru_stime, usage.ru_maxrss)

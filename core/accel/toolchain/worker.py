"""The driver's side of a worker: a process of a toolchain's Python that stays up and exchanges named arrays."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from accel.errors import AccelError
from accel.toolchain import process
from accel.toolchain.spec import Environment

if TYPE_CHECKING:
    import numpy as np

_PROTOCOL = Path(__file__).with_name("accel_worker.py")


class Worker:
    """One process, one call at a time (calls from several threads wait for each other).

    Args:
        env: The toolchain whose Python runs it.
        script: The vendor-side file; it calls ``accel_worker.serve``.
        cwd: Its working directory.
        log: File that receives what it and the vendor's libraries print; appended to.
        variables: More environment variables.
        arguments: Arguments of the script.
        stage: For errors.
    """

    def __init__(
        self,
        env: Environment,
        script: Path,
        *,
        cwd: Path,
        log: Path,
        variables: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        stage: str = "run",
    ) -> None:
        self.log = log
        self._stage = stage
        self._name = script.stem
        self._lock = threading.Lock()
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(env.python), "-u", str(_PROTOCOL), str(script), *arguments]
        with log.open("ab") as sink:
            self._process = process.start(
                command,
                process.tool_environ(env, variables),
                cwd=cwd,
                stage=stage,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink.fileno(),
            )

    @property
    def alive(self) -> bool:
        """False once it has ended or was closed."""
        return self._process.poll() is None

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout: float | None = None,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Call a function of the worker.

        Args:
            method: Its name.
            params: JSON values.
            arrays: Arrays by name, any dtype but object.
            timeout: Seconds; past them the worker is killed.

        Returns:
            The reply's JSON object and arrays (read-only or not: own copies).

        Raises:
            AccelError: ``failed.worker`` when the function raised (its message is the cause) or the process
                died (the log's end is the cause); ``failed.timeout``.
        """
        from accel.toolchain.accel_worker import Closed, read_frame, write_frame

        calls, replies = self._process.stdin, self._process.stdout
        assert calls is not None and replies is not None
        with self._lock:
            if self._process.poll() is not None:
                raise self._died()
            try:
                write_frame(calls, {"method": method, "params": dict(params or {})}, dict(arrays or {}))
                self._wait(timeout, method)
                message, results = read_frame(replies)
            except (Closed, BrokenPipeError, ConnectionResetError):
                raise self._died() from None
            except ValueError as error:
                self.close()
                raise self._error(f"{self._name} answered nonsense", str(error)) from error
            except BaseException:
                self.close()  # a half-read reply would be taken for the next one
                raise
        failure = message.get("error")
        if failure:
            raise self._error(f"{self._name}: {method} failed", f"{failure['type']}: {failure['text']}")
        return message["result"], results

    def close(self) -> None:
        """End the process. May be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        process.kill(self._process)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, timeout: float | None, method: str) -> None:
        if timeout is None or self._process.stdout is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                process.kill(self._process)
                raise AccelError(
                    f"{self._name}: {method} did not answer within {timeout:g} s",
                    code="failed.timeout",
                    stage=self._stage,
                    log=self.log,
                )

    def _died(self) -> AccelError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        rc = self._process.poll()
        process.kill(self._process)
        how = f"exit code {rc}"
        if rc is not None and rc < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-rc).name
        return self._error(f"{self._name} died ({how})", self._tail())

    def _tail(self) -> str:
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
            lines = file.read().decode("utf-8", "replace").splitlines()
            return "\n".join([line for line in lines if line.strip()][-8:])
        return ""

    def _error(self, summary: str, cause: str) -> AccelError:
        return AccelError(
            summary,
            code="failed.worker",
            stage=self._stage,
            cause=cause,
            log=self.log,
            hints=["The log has the vendor's own messages."],
        )

"""Running an example's own script on the Python of a framework's toolchain, where that framework is installed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.find import require
from accel.toolchain.process import run
from accel.toolchain.spec import Toolchain


def run_script(toolchain: Toolchain, script: Path, *arguments: object) -> None:
    """Run ``script`` to its end; what it imports from its own folder is found.

    Args:
        toolchain: ``TORCH`` or ``TENSORFLOW`` of :mod:`accel.builtin.frontends.toolchains`.
        script: Python that needs the framework and nothing of ours.
        arguments: Given to it as text.

    Raises:
        AccelError: ``toolchain.missing`` with the command that installs it; ``failed.script`` with its last lines.
    """
    environment = require(toolchain)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        argv = [environment.python, script, *map(str, arguments)]
        done = run(environment, argv, cwd=Path.cwd(), log=log, timeout=1800, variables=quiet)
        if done.rc:
            raise AccelError(f"{script.name} failed on {toolchain.name}", code="failed.script", cause=done.tail(12))


def told(main: Callable[[], None]) -> None:
    """``main()``; an error is told as ``accel`` tells it, with its exit code."""
    from accel.cli.console import format_error

    try:
        main()
    except AccelError as error:
        print(format_error(error), file=sys.stderr)
        sys.exit(error.exit_code)

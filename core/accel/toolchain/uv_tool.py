"""uv, the installer: how it is run, and the Python interpreters it knows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accel import progress
from accel.errors import AccelError
from accel.toolchain.process import Completed, spawn

_TIMEOUT = 3600.0


def run_uv(
    arguments: Sequence[str],
    cwd: Path,
    log: Path,
    *,
    on_line: Callable[[str], None] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Completed:
    """Run uv to its end, seeing nothing of the driver's own interpreter; ``variables`` are set in addition."""
    environ = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    environ.update(variables or {})
    return spawn(_command(arguments), environ, cwd=cwd, log=log, timeout=_TIMEOUT, on_line=on_line)


def make_environment(python: Path, root: Path, log: Path) -> None:
    """An empty environment in ``root`` that may be renamed.

    Raises:
        AccelError: ``toolchain.broken`` with what uv said.
    """
    arguments = ["venv", "--quiet", "--relocatable", "--allow-existing", "--python", str(python), str(root)]
    completed = run_uv(arguments, root, log)
    if completed.rc:
        raise AccelError(
            "uv venv failed",
            code="toolchain.broken",
            cause=completed.tail(3),
            log=log,
            hints=["Run the command again; `accel doctor` shows what is there."],
        )


def find_python(version: str, log: Path) -> Path:
    """An interpreter of this version (``3.10``): named by ``ACCEL_PYTHON``, known to uv, of pyenv, or fetched by uv.

    Raises:
        AccelError: ``toolchain.python`` when none can be had.
    """
    named = os.environ.get("ACCEL_PYTHON_" + version.replace(".", "_"))
    if named:
        return Path(named)
    for local in (True, False):
        arguments = ["python", "find", "--no-project", *(["--no-python-downloads"] if local else []), version]
        found = _output(_command(arguments))
        if found:
            return Path(found)
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        for candidate in sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True):
            return candidate
        if local:
            with progress.step(f"Fetching Python {version}"):
                _output(_command(["python", "install", version]))
    raise AccelError(
        f"no Python {version} on this machine, and none could be fetched",
        code="toolchain.python",
        hints=[
            f"Install it: apt install python{version}, pyenv install {version}, or uv python install {version}.",
            f"Or name one: ACCEL_PYTHON_{version.replace('.', '_')}=/path/to/python{version}",
        ],
        log=log if log.exists() else None,
    )


def _command(arguments: Sequence[str]) -> list[str]:
    import uv

    return [uv.find_uv_bin(), *arguments]


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    return done.stdout.strip() if done.returncode == 0 else ""

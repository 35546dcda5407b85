"""Making a managed environment: uv, pinned packages, mended, proven, and only then in its place."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from accel import progress
from accel.errors import AccelError
from accel.toolchain.find import (
    Stamp,
    declaration_digest,
    environment,
    environment_dir,
    find,
    read_stamp,
    require,
    toolchains_dir,
    write_stamp,
)
from accel.toolchain.process import Completed, spawn
from accel.toolchain.spec import Environment, Toolchain

_TIMEOUT = 3600.0


def install(toolchain: Toolchain, wheels: Path | None = None, *, again: bool = False) -> Environment:
    """Install a toolchain, or return it at once if it is there.

    The environment is built beside its place and renamed: an interrupted install leaves nothing that could be
    taken for a whole one, and the next try goes on with what uv's cache holds. Two installs wait for each other.

    Args:
        toolchain: What to install.
        wheels: Folder of wheel files for a machine that reaches no package index; nothing else is asked then.
        again: Make it anew even when it is there.

    Raises:
        AccelError: ``toolchain.missing`` (system SDK not found), ``toolchain.disk``, ``toolchain.python`` (no such
            Python), ``toolchain.download``, ``toolchain.broken`` (it does not work on this machine).
    """
    if toolchain.kind == "system":
        return require(toolchain)
    with _locked(toolchain):
        there = None if again else find(toolchain)
        if there is not None:
            return there
        root = environment_dir(toolchain)
        _sweep(root)
        _check_space(toolchain, root.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=root.parent))
        log = toolchains_dir() / f"{root.name}.log"
        log.unlink(missing_ok=True)
        try:
            _build(toolchain, part, wheels, log)
            _replace(part, root)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk(toolchain, root.parent) from error
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return require(toolchain)


def remove(toolchain: Toolchain) -> bool:
    """Delete a managed environment; False when there was none.

    Raises:
        AccelError: ``usage.toolchain`` for a system SDK, which is not ours to delete.
    """
    if toolchain.kind == "system":
        raise AccelError(f"{toolchain.name!r} is an SDK of this machine, not ours to remove", code="usage.toolchain")
    root = environment_dir(toolchain)
    with _locked(toolchain):
        _sweep(root)
        if not root.exists():
            return False
        # Renamed first, so that a half-deleted one is never found.
        grave = root.with_name(f".{root.name}.removed.part")
        root.replace(grave)
        shutil.rmtree(grave, ignore_errors=True)
        return True


def installed() -> list[tuple[Path, Stamp]]:
    """Every managed environment on this machine, of whatever plugin and version: its folder and its stamp."""
    folder = toolchains_dir()
    if not folder.is_dir():
        return []
    found = []
    for root in sorted(folder.iterdir()):
        stamp = None if root.name.startswith(".") else read_stamp(root)
        if stamp is not None:
            found.append((root, stamp))
    return found


def _build(toolchain: Toolchain, part: Path, wheels: Path | None, log: Path) -> None:
    python = find_python(toolchain.python, log)
    # Relocatable: the environment is renamed once it is whole.
    _uv(["venv", "--quiet", "--relocatable", "--allow-existing", "--python", str(python), str(part)], part, log)
    env = environment(toolchain, part)
    _packages(toolchain, env, wheels, log)
    if toolchain.post_install:
        toolchain.post_install(env)
    line = ""
    if toolchain.probe:
        with progress.step(f"Proving that {toolchain.name} works"):
            line = toolchain.probe(env)
    stamp = Stamp(
        toolchain=toolchain.name,
        version=toolchain.version,
        digest=declaration_digest(toolchain),
        probe=line,
        installed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bytes=_size(part),
    )
    write_stamp(part, stamp)


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
        found = _output(_uv_command(arguments))
        if found:
            return Path(found)
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        for candidate in sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True):
            return candidate
        if local:
            with progress.step(f"Fetching Python {version}"):
                _output(_uv_command(["python", "install", version]))
    raise AccelError(
        f"no Python {version} on this machine, and none could be fetched",
        code="toolchain.python",
        hints=[
            f"Install it: apt install python{version}, pyenv install {version}, or uv python install {version}.",
            f"Or name one: ACCEL_PYTHON_{version.replace('.', '_')}=/path/to/python{version}",
        ],
        log=log if log.exists() else None,
    )


def _packages(toolchain: Toolchain, env: Environment, wheels: Path | None, log: Path) -> None:
    count = len(toolchain.requirements)
    if not count:
        return
    arguments = [
        "pip",
        "install",
        "--no-deps",
        "--color=never",
        "--python",
        str(env.python),
    ]
    if wheels is not None:
        if not wheels.is_dir():
            raise AccelError(f"no folder {wheels}", code="usage.path", hints=["--from wants a folder of wheel files."])
        arguments += ["--no-config", "--no-index", "--find-links", str(wheels.resolve())]
    size = f" (about {toolchain.download_bytes / 1e6:.0f} MB)" if toolchain.download_bytes and not wheels else ""
    with progress.step(f"Installing {count} packages for {toolchain.name}{size}", count) as step:
        done = 0

        def on_line(line: str) -> None:
            nonlocal done
            if re.match(r"\s*Downloaded |\s*\+ ", line):
                done = min(done + 1, count)
                step.at(done, note=line.strip())

        extra = {} if wheels is not None or "UV_FIND_LINKS" in os.environ else toolchain.installer_variables
        command = [*arguments, *toolchain.requirements]
        completed = _uv(command, env.root, log, on_line=on_line, check=False, variables=extra)
    if completed.rc:
        raise _failed_download(toolchain, completed, wheels)


def _failed_download(toolchain: Toolchain, completed: Completed, wheels: Path | None) -> AccelError:
    text = completed.text()
    if re.search(r"No space left|os error 28", text):
        return _disk(toolchain, completed.log.parent)
    # uv frames its reason: "x what", "`-> why", the why over several lines.
    start = max(text.rfind("×"), text.rfind("\nerror:"), 0)
    reason = " ".join(text[start:].translate(str.maketrans("×╰─▶│├", "      ")).split())
    if wheels is not None:
        hints = [f"{wheels} must hold a wheel of each of: {', '.join(toolchain.requirements)}"]
    else:
        hints = [
            "Is the package index reachable? What was fetched is kept: run the same command again to go on.",
            "On a machine behind a wall: fetch the wheels elsewhere (pip download --no-deps) and use --from FOLDER.",
        ]
    return AccelError(
        f"the packages of {toolchain.name} could not be installed",
        code="toolchain.download",
        cause=reason[:600],
        hints=hints,
        log=completed.log,
    )


def _uv_command(arguments: Sequence[str]) -> list[str]:
    import uv

    return [uv.find_uv_bin(), *arguments]


def _uv(
    arguments: Sequence[str],
    cwd: Path,
    log: Path,
    *,
    on_line: object = None,
    check: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Completed:
    environ = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    environ.update(variables or {})
    completed = spawn(_uv_command(arguments), environ, cwd=cwd, log=log, timeout=_TIMEOUT, on_line=on_line)  # type: ignore[arg-type]
    if check and completed.rc:
        raise AccelError(
            f"uv {arguments[0]} failed",
            code="toolchain.broken",
            cause=completed.tail(3),
            log=log,
            hints=["Run the command again; `accel doctor` shows what is there."],
        )
    return completed


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    return done.stdout.strip() if done.returncode == 0 else ""


def _replace(part: Path, root: Path) -> None:
    if root.exists():  # outdated or broken
        grave = root.with_name(f".{root.name}.old.part")
        shutil.rmtree(grave, ignore_errors=True)
        root.replace(grave)
        part.replace(root)
        shutil.rmtree(grave, ignore_errors=True)
    else:
        part.replace(root)


def _sweep(root: Path) -> None:
    # Under the lock nobody builds: what carries these names was left by a killed install.
    for stale in root.parent.glob(f".{root.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)


@contextlib.contextmanager
def _locked(toolchain: Toolchain) -> Iterator[None]:
    import fcntl

    folder = toolchains_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{toolchain.name}.lock").open("w")
    except OSError as error:
        raise AccelError(
            f"cannot write to {folder}",
            code="toolchain.disk",
            cause=str(error),
            hints=["Set XDG_DATA_HOME to a folder that you may write to."],
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.message(f"Another process is working on the toolchain {toolchain.name}; waiting for it.")
            started = time.monotonic()
            fcntl.flock(lock, fcntl.LOCK_EX)
            progress.message(f"Waited {time.monotonic() - started:.0f} s.")
        yield


def _check_space(toolchain: Toolchain, folder: Path) -> None:
    if shutil.disk_usage(folder).free < toolchain.installed_bytes:
        raise _disk(toolchain, folder)


def _disk(toolchain: Toolchain, folder: Path) -> AccelError:
    free = shutil.disk_usage(folder).free
    return AccelError(
        f"not enough room for the toolchain {toolchain.name}",
        code="toolchain.disk",
        cause=f"{free / 1e9:.1f} GB free at {folder}, about {toolchain.installed_bytes / 1e9:.1f} GB needed",
        hints=["Free some space, or set XDG_DATA_HOME to a folder on a larger disk."],
    )


def _size(root: Path) -> int:
    return sum(p.lstat().st_size for p in root.rglob("*") if not p.is_dir())

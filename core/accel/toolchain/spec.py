"""What a toolchain is: declared by a plugin as plain data with a few functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Environment:
    """An installed toolchain.

    Attributes:
        toolchain: Name.
        version: The compiler's version, for manifests and cache keys.
        root: Directory it lives in.
        python: Its Python interpreter.
        variables: Environment variables its processes need, added to a minimal environment.
        bin: Directories that stand first on PATH, in order.
    """

    toolchain: str
    version: str
    root: Path
    python: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    bin: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Toolchain:
    """A vendor's compiler and simulator.

    Attributes:
        name: What users say: ``accel toolchain install sophon``.
        version: Version of the compiler that is installed (or "" for a system SDK: asked for).
        summary: One line.
        kind: ``managed``: made by us from registry packages; ``system``: an SDK that is already there.
        python: Python version of a managed environment (``3.10``).
        requirements: Pinned; installed without their dependencies, so everything needed is listed.
        download_bytes: About how much is downloaded, for the message before it starts.
        post_install: Mends the environment after the packages are in.
        probe: Proves that it works (compiles something tiny); returns a line for ``doctor``; raises AccelError.
        locate: For ``system``: finds the SDK, or returns None.
        variables: See Environment. In a managed environment ``{root}`` and ``{site}`` in a value stand for its
            directory and its site-packages.
        bin: Directories for ``Environment.bin``, relative to the root of a managed environment.
        installed_bytes: About how much a managed environment takes, checked against the free space first.
        installer_variables: Environment variables of the installer (uv), for packages that lie on an index of
            their own. The user's own sources (uv's or pip's) are asked first.
        elsewhere: What to ask other sources for, by the requirement it stands for: the general index may have
            another build of the same version.
        revision: Raise it when ``post_install`` changes, so that environments mended by the old one are made again.
    """

    name: str
    version: str
    summary: str
    kind: Literal["managed", "system"] = "managed"
    python: str = "3.10"
    requirements: tuple[str, ...] = ()
    download_bytes: int = 0
    post_install: Callable[[Environment], None] | None = None
    probe: Callable[[Environment], str] | None = None
    locate: Callable[[], Environment | None] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    bin: tuple[str, ...] = ("bin",)
    installed_bytes: int = 0
    installer_variables: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1

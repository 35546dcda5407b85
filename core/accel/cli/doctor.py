"""``accel doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accel.cli.app import family
from accel.cli.console import emit, folded, shown, size, table

app = family()


@app.command()
def doctor(
    probe: Annotated[
        bool, typer.Option("--probe", help="Also prove every installed toolchain by compiling something tiny.")
    ] = False,
) -> None:
    """Say what is installed and what is wrong.

    The exit code is 4 when an installed plugin or toolchain is broken.

    \b
    Examples:
      accel doctor
      accel doctor --probe
    """
    from accel import __version__
    from accel.cache import Cache
    from accel.cli.toolchain import declared
    from accel.errors import AccelError
    from accel.plugins import EXTENSIONS, PLUGINS, all_targets, registry
    from accel.toolchain.find import status, toolchains_dir
    from accel.versions import versions

    found = registry()
    toolchains = [status(t) for t in declared().values()]
    chips: dict[str, int] = {}
    for target in all_targets(found):
        chips[target.vendor] = chips.get(target.vendor, 0) + 1
    plugins = [*found.origins(PLUGINS), *found.origins(EXTENSIONS)]
    libraries = versions(["onnx", "onnxruntime", "numpy", "onnxslim", "boost-histogram", "pluggy", "stevedore"])
    cache = Cache()
    kept = sum(e.bytes for e in cache.entries())
    free = {
        "toolchains": (toolchains_dir(), _free(toolchains_dir())),
        "cache": (cache.root, _free(cache.root)),
    }
    proofs = _probe([s for s in toolchains if s.environment is not None]) if probe else {}
    wrong = [f"{p.name}: {p.reason} {p.hint}".rstrip() for p in found.problems]
    wrong += [f"toolchain {s.toolchain.name}: {s.detail}" for s in toolchains if s.state in ("broken", "outdated")]
    wrong += [f"toolchain {name}: {text}" for name, (good, text) in proofs.items() if not good]
    failure = None
    if wrong:
        failure = AccelError(
            f"{len(wrong)} thing{'s' if len(wrong) > 1 else ''} wrong", code="toolchain.broken", cause="; ".join(wrong)
        )
    result = {
        "accel": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": libraries,
        "plugins": [{**asdict(o), "targets": chips.get(o.name, 0)} for o in plugins],
        "toolchains": [
            {"name": s.toolchain.name, "version": s.toolchain.version, "state": s.state, "detail": s.detail}
            for s in toolchains
        ],
        "probes": {name: text for name, (_, text) in proofs.items()},
        "folders": {name: {"path": path, "free_bytes": space} for name, (path, space) in free.items()},
        "cache_bytes": kept,
        "problems": wrong,
    }

    def text() -> str:
        lines = [
            f"accel {__version__}, Python {platform.python_version()}, {result['system']}, {os.cpu_count()} cores",
            folded(", ".join(f"{k} {v}" for k, v in libraries.items()), indent=0),
            "",
            table(
                ("plugin", "package", "version", "targets"),
                [(o.name, o.package, o.version, chips.get(o.name, 0)) for o in plugins],
            ),
            "",
            table(
                ("toolchain", "version", "state", "detail"),
                [(s.toolchain.name, s.toolchain.version, s.state, s.detail) for s in toolchains],
            ),
            "",
        ]
        lines += [f"{name}: {shown(path)}, {size(space)} free" for name, (path, space) in free.items()]
        lines.append(f"cache holds {size(kept)}")
        lines += [f"{name}: {text}" for name, (_, text) in proofs.items()]
        return "\n".join([*lines, "", *(wrong or ["Nothing is wrong."])])

    emit(result, text, failure)


def _probe(found: list[object]) -> dict[str, tuple[bool, str]]:
    from accel.errors import AccelError
    from accel.progress import step
    from accel.toolchain.find import Status

    done: dict[str, tuple[bool, str]] = {}
    for one in found:
        assert isinstance(one, Status) and one.environment is not None
        if one.toolchain.probe is None:
            continue
        with step(f"probe {one.toolchain.name}"):
            try:
                done[one.toolchain.name] = (True, one.toolchain.probe(one.environment))
            except AccelError as error:
                done[one.toolchain.name] = (False, f"{error.summary} {error.cause}".strip())
    return done


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free

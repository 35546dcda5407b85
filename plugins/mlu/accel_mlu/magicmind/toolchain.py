"""Finding the MagicMind SDK: an interpreter that imports ``magicmind``, ``mm_run`` and the card."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.sdk import prove_import
from accel.toolchain.spec import Environment, Toolchain

PYTHON = "ACCEL_MAGICMIND_PYTHON"
"""Names the interpreter, where it is none of the usual ones."""
DEFAULT_HOME = "/usr/local/neuware"
DEVICES = "/dev/cambricon_dev*"

# Only files are looked at: importing the SDK takes seconds and may print.
_ASK = """
import glob, importlib.util, json, os, sys
spec = importlib.util.find_spec({package!r})
where = list(spec.submodule_search_locations or []) if spec else []
infos = [i for w in where for i in glob.glob(os.path.join(os.path.dirname(w), {package!r} + "-*.dist-info"))]
version = os.path.basename(infos[0]).split("-")[1].replace(".dist", "") if infos else ""
print(json.dumps({{"found": bool(spec), "version": version, "numpy": bool(importlib.util.find_spec("numpy"))}}))
"""


def neuware_home() -> Path | None:
    """The SDK's folder: ``NEUWARE_HOME``, or the place its packages install to."""
    named = os.environ.get("NEUWARE_HOME")
    home = Path(named or DEFAULT_HOME)
    return home if home.is_dir() else None


def locate_package(toolchain: str, package: str, home: Path) -> Environment | None:
    """The environment of the first interpreter that has ``package``, with NEUWARE_HOME's tools and libraries."""
    for python in _interpreters(home):
        found = _ask(str(python), package, str(home))
        if found is not None:
            bins = tuple(p for p in (home / "bin",) if p.is_dir())
            libraries = [str(p) for p in (home / "lib64", home / "lib") if p.is_dir()]
            inherited = os.environ.get("LD_LIBRARY_PATH")
            return Environment(
                toolchain,
                found,
                home,
                python,
                {
                    "NEUWARE_HOME": str(home),
                    "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([inherited] if inherited else [])]),
                },
                bins,
            )
    return None


def locate() -> Environment | None:
    """The MagicMind SDK of this machine."""
    home = neuware_home()
    return locate_package("magicmind", "magicmind", home) if home else None


def mm_run(environment: Environment) -> Path:
    """The performance tool.

    Raises:
        AccelError: ``toolchain.broken`` when the SDK came without it.
    """
    places = os.pathsep.join([*(str(p) for p in environment.bin), os.environ.get("PATH", os.defpath)])
    found = shutil.which("mm_run", path=places)
    if found is None:
        raise AccelError(
            "mm_run is not installed",
            code="toolchain.broken",
            cause=f"it is neither in {environment.root / 'bin'} nor on PATH",
            hints=["Build it from the SDK's samples (samples/mm_run), put it on PATH, then run: accel doctor"],
        )
    return Path(found)


def cards() -> list[Path]:
    """Device nodes of the cards in this machine."""
    pattern = Path(os.environ.get("ACCEL_MLU_DEVICES", DEVICES))
    return sorted(pattern.parent.glob(pattern.name))


def probe(environment: Environment) -> str:
    """Import the SDK and say what is there."""
    prove_import(
        environment,
        "import magicmind.python.runtime as mm; mm.BuilderConfig()",
        "MagicMind",
        "Is the driver installed, and is LD_LIBRARY_PATH complete (NEUWARE_HOME/lib64)?",
    )
    parts = [f"MagicMind {environment.version or 'of unknown version'} ({environment.python})"]
    try:
        parts.append(f"mm_run: {mm_run(environment)}")
    except AccelError:
        parts.append("no mm_run: no measured performance")
    count = len(cards())
    parts.append(
        f"{count} card{'s' if count != 1 else ''}" if count else "no card: builds, but does not run or measure"
    )
    return "; ".join(parts)


def _interpreters(home: Path) -> list[Path]:
    named = os.environ.get(PYTHON)
    if named:
        return [Path(named)]
    words = ("python3.7", "python3", "python")
    found = [home / "bin" / word for word in words]
    found += [Path(p) for word in words if (p := shutil.which(word))]
    return [p for p in dict.fromkeys(found) if os.access(p, os.X_OK)]


@lru_cache(maxsize=32)
def _ask(python: str, package: str, home: str) -> str | None:
    """Version of ``package`` in ``python`` ("" where it does not say); None where it is not importable."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK.format(package=package)],
            env={**os.environ, "NEUWARE_HOME": home, "PYTHONNOUSERSITE": "1"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return str(answer["version"]) if answer["found"] and answer["numpy"] else None


MAGICMIND = Toolchain(
    name="magicmind",
    version="",
    summary="Cambricon MagicMind (from the vendor; NEUWARE_HOME)",
    kind="system",
    python="3.7",
    locate=locate,
    probe=probe,
)

"""Sophon's runtime on a machine with a device: found by presence, never installed from here."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.find import find
from accel.toolchain.sdk import prove_import
from accel.toolchain.spec import Environment, Toolchain

LIBSOPHON = Path("/opt/sophon/libsophon-current")
"""Where the vendor's packages put the driver's libraries and tools; ``ACCEL_LIBSOPHON`` names another place."""
DEVICES = "/dev/bm-sophon*"
"""Device nodes; ``ACCEL_SOPHON_DEVICES`` gives another pattern."""


def devices() -> list[int]:
    """Numbers of the devices in this machine."""
    pattern = Path(os.environ.get("ACCEL_SOPHON_DEVICES", DEVICES))
    found = [re.search(r"(\d+)$", p.name) for p in pattern.parent.glob(pattern.name)]
    return sorted(int(m.group(1)) for m in found if m)


def locate() -> Environment | None:
    """The runtime of this machine, or None without its libraries or without a device."""
    root = Path(os.environ.get("ACCEL_LIBSOPHON", LIBSOPHON))
    if not root.is_dir() or not devices():
        return None
    python = os.environ.get("ACCEL_SOPHON_PYTHON") or shutil.which("python3", path=os.defpath) or "python3"
    libraries = [str(root / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    version = root.resolve().name.rpartition("-")[2]
    return Environment(
        toolchain="sophon-runtime",
        version=version if version[:1].isdigit() else "",
        root=root,
        python=Path(python),
        variables={"LD_LIBRARY_PATH": ":".join(libraries)},
        bin=(root / "bin",),
    )


def probe(env: Environment) -> str:
    """Import sail in the system's Python and say what is there.

    Raises:
        AccelError: ``toolchain.broken``.
    """
    hint = "Install sophon-sail for this Python, or name another one: ACCEL_SOPHON_PYTHON=/path/to/python3"
    prove_import(env, "import sophon.sail", "sophon.sail", hint)
    tool = shutil.which("bmrt_test", path=str(env.root / "bin")) or "no bmrt_test: no measured performance"
    return f"libsophon {env.version or 'of unknown version'}, {len(devices())} device(s), {tool}"


SOPHON_RUNTIME = Toolchain(
    name="sophon-runtime",
    version="",
    summary="Sophon's libsophon and sophon-sail, for a machine with a device",
    kind="system",
    locate=locate,
    probe=probe,
)


def chosen_device(asked: str, simulator: str) -> int | None:
    """The device to run on, or None for a simulator.

    Args:
        asked: ``auto``: the first device where there is one and no simulator was named; ``simulator``; a number.
        simulator: Name of the simulator that was asked for, or empty.

    Raises:
        AccelError: ``usage.device``, ``toolchain.missing`` for a number without a runtime.
    """
    if asked == "simulator" or (asked == "auto" and (simulator or find(SOPHON_RUNTIME) is None)):
        return None
    present = devices()
    if asked == "auto":
        return present[0]
    if not asked.isdigit() or simulator:
        raise AccelError(
            f"device {asked!r} with simulator {simulator!r}" if simulator else f"there is no device {asked!r}",
            code="usage.device",
            hints=["--device is auto, simulator or a number; --simulator goes without a number."],
        )
    if find(SOPHON_RUNTIME) is None or int(asked) not in present:
        have = ", ".join(map(str, present)) or "none"
        raise AccelError(
            f"Sophon device {asked} is not to be had on this machine",
            code="toolchain.missing",
            cause=f"libsophon in {LIBSOPHON} and a node {DEVICES} are needed; devices here: {have}",
            hints=["Run it where the device is, or in a simulator: --device simulator"],
        )
    return int(asked)

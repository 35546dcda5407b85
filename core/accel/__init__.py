"""``accel``: one driver for the compilers of many AI accelerators.

The stages are functions with the same names as the commands: :func:`parse`, :func:`calibrate`,
:func:`build`, :func:`run`, :func:`evaluate`, :func:`compile`. They are loaded on first use, so that
``import accel`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from accel.driver import build, calibrate, compile, evaluate, open_artifact, parse, run
    from accel.errors import AccelError
    from accel.hookspecs import hookimpl
    from accel.target import Numerics, QuantScheme, Target

_HOMES = {
    **dict.fromkeys(("build", "calibrate", "compile", "evaluate", "open_artifact", "parse", "run"), "accel.driver"),
    "AccelError": "accel.errors",
    "hookimpl": "accel.hookspecs",
    **dict.fromkeys(("Numerics", "QuantScheme", "Target"), "accel.target"),
}

__all__ = [
    "AccelError",
    "Numerics",
    "QuantScheme",
    "Target",
    "build",
    "calibrate",
    "compile",
    "evaluate",
    "hookimpl",
    "open_artifact",
    "parse",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'accel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)

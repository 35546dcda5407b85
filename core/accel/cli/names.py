"""Names that the shell completes."""

from __future__ import annotations

COMPLETE = "_ACCEL_COMPLETE"
"""Environment variable by which a shell asks for completions."""


def target_names(incomplete: str) -> list[str]:
    """Chips and their aliases, from metadata alone."""
    from accel.plugins import registry

    names = [n for e in registry().targets.values() for n in (e.name, *e.aliases)]
    return [n for n in names if n.startswith(incomplete)]

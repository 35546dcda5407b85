"""Entry point of the ``accel`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    raise NotImplementedError

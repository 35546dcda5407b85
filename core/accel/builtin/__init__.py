"""What ships with the core, written against hookspecs.py like anyone's plugin."""

PLUGINS: tuple[object, ...] = ()
"""Registered in this order. pluggy asks the last one first: list the most general first."""

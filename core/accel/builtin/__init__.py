"""What ships with the core, written against hookspecs.py like anyone's plugin."""

from accel.builtin.datasets import plugin as datasets

PLUGINS: tuple[object, ...] = (datasets,)
"""Registered in this order. pluggy asks the last one first: list the most general first."""

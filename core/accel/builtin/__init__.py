"""What ships with the core, written against hookspecs.py like anyone's plugin."""

from accel.builtin.datasets import plugin as datasets
from accel.builtin.frontends import plugin as frontends

PLUGINS: tuple[object, ...] = (datasets, frontends)
"""Registered in this order. pluggy asks the last one first: list the most general first."""

"""What ships with the core, written against hookspecs.py like anyone's plugin."""

from accel.builtin.calibrators import plugin as calibrators
from accel.builtin.datasets import plugin as datasets
from accel.builtin.evaluate import plugin as evaluate
from accel.builtin.frontends import plugin as frontends
from accel.builtin.reference import plugin as reference_plugin
from accel.builtin.tasks import plugin as tasks

PLUGINS: tuple[object, ...] = (reference_plugin, calibrators, datasets, evaluate, frontends, tasks)
"""Registered in this order. pluggy asks the last one first: list the most general first."""

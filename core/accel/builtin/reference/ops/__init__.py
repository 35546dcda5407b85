"""Operators on stored codes, a file a family. Importing this package registers their handlers."""

from accel.builtin.reference.ops import arithmetic, linear, pool, shape, table

__all__ = ["arithmetic", "linear", "pool", "shape", "table"]

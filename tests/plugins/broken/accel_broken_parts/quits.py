"""Leaves the interpreter when it is imported."""

raise SystemExit(3)

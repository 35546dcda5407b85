"""Horizon J5, X5, X3 and J3 targets for accel."""

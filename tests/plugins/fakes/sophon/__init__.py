"""Stands in for Sophon's Python packages."""

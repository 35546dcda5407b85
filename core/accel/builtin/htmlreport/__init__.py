"""One self-contained HTML page about a recipe's run."""

from __future__ import annotations

from accel.builtin.htmlreport.page import render

__all__ = ["render"]

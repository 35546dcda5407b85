"""One self-contained HTML page about a recipe's run."""

from __future__ import annotations

from accel.builtin.htmlreport.page import render
from accel.builtin.htmlreport.samples import draw_samples

__all__ = ["draw_samples", "render"]

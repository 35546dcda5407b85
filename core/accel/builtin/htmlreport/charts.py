"""Charts as inline SVG, drawn by matplotlib (``accel-core[report]``)."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

_P = ParamSpec("_P")

# Okabe and Ito's colours: told apart with every common colour blindness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accel",
    # Names come from models: a dollar sign in one is no formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def _styled(draw: Callable[_P, str]) -> Callable[_P, str]:
    """Draw in our style from the first text to the last: matplotlib reads it when each is made."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> str:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def available() -> bool:
    """Whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


@_styled
def grouped_bars(
    title: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str = ""
) -> str:
    """Horizontal bars: a group of bars a row, a colour a series; None leaves a gap.

    Args:
        title: Above the chart.
        groups: Names of the rows.
        series: Values by name, one for each group.
        unit: Of the values.
    """
    height = 1.2 + 0.2 * len(groups) * max(1, len(series)) + 0.15 * len(groups)
    figure, axes = _figure(height)
    thick = 0.8 / max(1, len(series))
    for at, (name, values) in enumerate(series.items()):
        places = [row + (at - (len(series) - 1) / 2) * thick for row in range(len(groups))]
        known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        if known:
            drawn = axes.barh(
                [p for p, _ in known], [v for _, v in known], thick * 0.92, color=COLORS[at % len(COLORS)], label=name
            )
            axes.bar_label(drawn, labels=[f" {v:,.4g}" if v < 1000 else f" {v:,.0f}" for _, v in known], fontsize=9)
    axes.set_yticks(range(len(groups)), [shorten(g, 52) for g in groups])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(unit)
    if len(series) > 1:
        _legend(figure, list(series))
    return _svg(figure, title)


@_styled
def lines(title: str, names: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """A line a series over the layers in execution order.

    Args:
        title: Above the chart.
        names: Of the layers; every so many is written below the axis.
        series: Values by name, one for each layer; None leaves a gap.
        unit: Of the values.
    """
    figure, axes = _figure(3.6)
    for at, (name, values) in enumerate(series.items()):
        plain = [float("nan") if v is None else v for v in values]
        axes.plot(
            plain, color=COLORS[at % len(COLORS)], label=name, linewidth=1.4, marker="." if len(names) < 60 else ""
        )
    every = max(1, len(names) // 12)
    axes.set_xticks(
        list(range(0, len(names), every)), [shorten(n, 26) for n in names[::every]], rotation=35, ha="right"
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel(unit)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_title(title, loc="left", fontweight="bold")
    _legend(figure, list(series))
    return _svg(figure, title)


def shorten(name: str, most: int = 36) -> str:
    """The end of a long name: the beginning is what the layers of a network share."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _legend(figure: Any, names: Sequence[str]) -> None:
    # About 110 letters fit side by side.
    columns = max(1, min(len(names), 110 // (max(map(len, names), default=0) + 8)))
    figure.legend(loc="outside lower left", ncols=columns, frameon=False)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: it keeps figures alive and looks for a display

    figure = Figure(figsize=(9.0, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any, title: str) -> str:
    """The figure as an element that fits into a page: no prolog, no fixed size, ids of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg [^>]*?) ?width="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) ?height="[\d.]+pt"', r"\1", text, count=1)
    own = f"c{abs(hash_of(title)):x}"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', text)
    text = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{own}-\2"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{own}-\1)", text)


def hash_of(text: str) -> int:
    """A number that is the same in every run."""
    from zlib import crc32

    return crc32(text.encode())

"""The figures side by side: small tables by kind, and the bars that go with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accel.builtin.htmlreport import charts
from accel.builtin.htmlreport.labels import of_reports
from accel.report import SPEED_UNITS

if TYPE_CHECKING:
    from accel.report import Metric, Report

CLOSENESS = ("cosine", "sqnr", "max_error", "agreement")
"""Figures of the comparison with float; the others of an evaluation are the task's own."""
_DRAWN = 3
"""Figures of a task that are drawn: the first ones are the usual ones."""
_COUNTS = ("samples", "macs")
"""Nearly always the same in every row: told once, below."""


@dataclass(frozen=True)
class Column:
    """One figure of all rows; ``provenance`` is "" where the rows differ in it."""

    name: str
    unit: str
    provenance: str


@dataclass(frozen=True)
class Grid:
    """A table of figures: by row and column, with their provenance, or None."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Metric | None, ...]], ...]


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what it says in words."""

    svg: str
    caption: str


def is_evaluation(report: Report) -> bool:
    """Whether it counts samples; performance does not."""
    return any(m.name.rpartition("/")[2] == "samples" for m in report.metrics)


def grids(reports: Sequence[Report]) -> list[Grid]:
    """Accuracy, closeness to float and performance, as far as there are figures."""
    evaluations = [r for r in reports if is_evaluation(r)]
    speeds = [r for r in reports if not is_evaluation(r)]
    made = [
        _grid("Accuracy", evaluations, lambda m: _plain(m) not in (*CLOSENESS, *_COUNTS)),
        _grid("Against float", evaluations, lambda m: _plain(m) in CLOSENESS),
        _grid("Performance", speeds, lambda m: m.name not in _COUNTS),
    ]
    return [g for g in made if g.columns]


def counts(reports: Sequence[Report]) -> str:
    """``8 samples; 132,857,856 macs``."""
    found: dict[str, list[str]] = {}
    for metric in (m for r in reports for m in r.metrics if _plain(m) in _COUNTS and m.value is not None):
        found.setdefault(_plain(metric), []).append(f"{metric.value:,}")
    return "; ".join(f"{', '.join(dict.fromkeys(values))} {name}" for name, values in found.items())


def bars(reports: Sequence[Report]) -> list[Chart]:
    """Bars by row: the first ratios of the task (of the comparison where there is no task), and the speed."""
    evaluations = [r for r in reports if is_evaluation(r)]
    ratios = _names(evaluations, lambda m: not m.unit and _plain(m) not in ("samples", "max_error"))
    ratios.sort(key=lambda name: name.rpartition("/")[2] in CLOSENESS)
    made = [_bars("Accuracy", evaluations, ratios[:_DRAWN], "", "Ratios: 1 is best.")]
    speeds = [r for r in reports if not is_evaluation(r)]
    for unit in SPEED_UNITS:
        names = _names(speeds, lambda m, unit=unit: m.unit == unit)  # type: ignore[misc]
        better = "More is better" if unit == "FPS" else "Less is better"
        said = ", ".join(dict.fromkeys(m.provenance for r in speeds for m in r.metrics if m.unit == unit))
        made.append(_bars("Performance", speeds, names[:_DRAWN], unit, f"{better}; {said}."))
    return [chart for chart in made if chart is not None]


def _plain(metric: Metric) -> str:
    return metric.name.rpartition("/")[2]


def _names(reports: Sequence[Report], wanted: Callable[[Metric], bool]) -> list[str]:
    return list(dict.fromkeys(m.name for r in reports for m in r.metrics if m.value is not None and wanted(m)))


def _bars(title: str, reports: Sequence[Report], names: Sequence[str], unit: str, caption: str) -> Chart | None:
    if not names:
        return None
    figures = [{m.name: m.value for m in report.metrics} for report in reports]
    series = {name: [_number(found.get(name)) for found in figures] for name in names}
    title = f"{title} ({unit})" if unit else title
    return Chart(charts.grouped_bars(title, of_reports(reports), series, unit), caption)


def _number(value: float | int | None) -> float | None:
    return None if value is None else float(value)


def _grid(title: str, reports: Sequence[Report], wanted: Callable[[Metric], bool]) -> Grid:
    names = dict.fromkeys((m.name, m.unit) for r in reports for m in r.metrics if wanted(m))
    columns, cells = [], []
    for name, unit in names:
        found = [next((m for m in r.metrics if (m.name, m.unit) == (name, unit)), None) for r in reports]
        sources = {m.provenance for m in found if m is not None}
        columns.append(Column(name, unit, next(iter(sources)) if len(sources) == 1 else ""))
        cells.append(found)
    rows = tuple(zip(of_reports(reports), zip(*cells, strict=True), strict=True)) if cells else ()
    return Grid(title, tuple(columns), rows)

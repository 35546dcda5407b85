"""The page: what was built, how right and how fast it is, where it differs, and how to do it again."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.builtin.htmlreport import charts
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.artifact import Manifest
    from accel.calibration import Calibration
    from accel.report import Report, Table

PICTURE_WIDTH = 480
"""Pixels: larger pictures are scaled down in the page."""
ROWS_SHOWN = 500
_SPEED_UNITS = {"ms", "s", "us", "FPS", "img/s"}


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what it says in words."""

    svg: str
    caption: str


def render(
    reports: Sequence[Report],
    manifests: Sequence[Manifest] = (),
    pictures: Sequence[Path] = (),
    *,
    title: str = "Deployment report",
    calibrations: Sequence[Calibration] = (),
    commands: Sequence[str] = (),
) -> str:
    """One HTML page without any other file, script or network access.

    Args:
        reports: Of evaluate and perf, any number an artifact.
        manifests: Of the artifacts.
        pictures: Sample pictures (``accel run --save-images``), embedded.
        title: Of the page.
        calibrations: Their ranges are tabled.
        commands: That made it all, beside those of the reports.

    Raises:
        AccelError: ``usage.extra`` without jinja2.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise AccelError(
            "the HTML report needs jinja2", code="usage.extra", hints=["pip install 'accel-core[report]'"]
        ) from error
    # Names and messages come from models and vendors: everything is escaped unless it is one of our own charts.
    environment = Environment(
        loader=PackageLoader("accel.builtin.htmlreport", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    drawn = _charts(reports) if charts.available() else []
    return environment.get_template("report.html").render(
        title=title,
        columns=_columns(reports),
        summary=_summary(reports, manifests),
        charts=drawn,
        no_charts="" if charts.available() else "Charts need matplotlib: pip install 'accel-core[report]'",
        manifests=[_manifest_facts(m) for m in manifests],
        reports=[_report_facts(r) for r in reports],
        ranges=[_ranges(c) for c in calibrations],
        pictures=[_embedded(p) for p in pictures],
        commands=list(dict.fromkeys([*commands, *(c for r in reports for c in r.commands)])),
    )


def label_of(report: Report) -> str:
    """``bm1684 int8 vendor`` as far as the report says it."""
    parts = [report.subject.get(k, "") for k in ("target", "precision", "backend", "stage")]
    return " ".join(p for p in parts if p) or report.title


def _columns(reports: Sequence[Report]) -> list[str]:
    names: dict[str, None] = {}
    for report in reports:
        for metric in report.metrics:
            names[f"{metric.name} [{metric.unit}]" if metric.unit else metric.name] = None
    return list(names)


def _summary(reports: Sequence[Report], manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """A row an artifact: its own facts, and every figure with its label."""
    rows: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        key = " ".join(p for p in (manifest.target, manifest.precision, manifest.backend) if p)
        size = sum(f.bytes for f in manifest.files if f.role == "model")
        rows[key] = {"label": key, "size": size, "figures": {}}
    for report in reports:
        row = rows.setdefault(label_of(report), {"label": label_of(report), "size": None, "figures": {}})
        for metric in report.metrics:
            column = f"{metric.name} [{metric.unit}]" if metric.unit else metric.name
            row["figures"].setdefault(column, (metric.value, metric.provenance))
    return list(rows.values())


def _charts(reports: Sequence[Report]) -> list[Chart]:
    made = []
    for unit, caption in (("", "Ratios: 1 is best, except for errors."), ("dB", "Higher is closer to float.")):
        found = _series(reports, lambda m, unit=unit: m.unit == unit and _is_ratio(m))
        if found:
            made.append(Chart(charts.grouped_bars("Accuracy" + (f" ({unit})" if unit else ""), *found, unit), caption))
    for unit in sorted({m.unit for r in reports for m in r.metrics} & _SPEED_UNITS):
        found = _series(reports, lambda m, unit=unit: m.unit == unit)
        if found:
            caption = "Measured, simulated and predicted figures are told apart in the table."
            made.append(Chart(charts.grouped_bars(f"Performance ({unit})", *found, unit), caption))
    return [*made, *_layer_charts(reports)]


def _is_ratio(metric: Any) -> bool:
    return metric.name not in ("samples", "max_error") and isinstance(metric.value, float)


def _series(reports: Sequence[Report], wanted: Any) -> tuple[list[str], dict[str, list[float | None]]] | None:
    """Metric names as groups and reports as series, or None when there is nothing to draw."""
    names = list(dict.fromkeys(m.name for r in reports for m in r.metrics if wanted(m)))[:16]
    merged: dict[str, dict[str, float | None]] = {}
    for report in reports:
        values = {m.name: float(m.value) for m in report.metrics if wanted(m) and m.value is not None}
        if values:
            merged.setdefault(label_of(report), {}).update(values)
    series = {label: [values.get(name) for name in names] for label, values in merged.items()}
    return (names, series) if names and series else None


def _layer_charts(reports: Sequence[Report]) -> list[Chart]:
    made = []
    for column, title, unit in (("cosine", "Cosine with float by layer", "cosine"), ("SQNR dB", "SQNR by layer", "dB")):
        by_label = {}
        for report in reports:
            table = next((t for t in report.tables if t.title == "layers"), None)
            if table is not None and column in table.columns:
                at = table.columns.index(column)
                by_label[label_of(report)] = {str(row[0]): row[at] for row in table.rows}
        names = list(dict.fromkeys(n for values in by_label.values() for n in values))
        if len(names) > 1:
            series: dict[str, list[Any]] = {k: [v.get(n) for n in names] for k, v in by_label.items()}
            made.append(Chart(charts.lines(title, names, series, unit), "Layers in execution order."))
    return made


def _manifest_facts(manifest: Manifest) -> dict[str, Any]:
    placed = Counter((n.place or manifest.target, n.precision, n.op_type) for n in manifest.nodes)
    rows = [(place, precision, op, count) for (place, precision, op), count in placed.most_common()]
    return {
        "label": " ".join(p for p in (manifest.target, manifest.precision, manifest.backend) if p),
        "facts": [
            ("network", manifest.name),
            ("payload", manifest.payload),
            ("inputs", ", ".join(map(str, manifest.inputs))),
            ("outputs", ", ".join(map(str, manifest.outputs))),
            ("batches", ", ".join(map(str, manifest.batches))),
            ("passes", ", ".join(manifest.passes)),
            ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
            ("network digest", manifest.model_digest[:16]),
            ("calibration digest", manifest.calibration_digest[:16]),
        ],
        "placement": rows,
        "files": [(f.path, f.role, f.bytes, f.sha256[:16]) for f in manifest.files],
        "notes": list(manifest.notes),
    }


def _report_facts(report: Report) -> dict[str, Any]:
    return {
        "label": label_of(report),
        "title": report.title,
        "subject": dict(report.subject),
        "metrics": report.metrics,
        "tables": [_cut(table) for table in report.tables if table.rows],
        "notes": report.notes,
    }


def _cut(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": table.columns,
        "rows": table.rows[:ROWS_SHOWN],
        "left_out": max(0, len(table.rows) - ROWS_SHOWN),
    }


def _ranges(calibration: Calibration) -> dict[str, Any]:
    rows = [(t.name, t.low, t.high, t.count, t.nonfinite) for t in calibration.tensors.values()]
    return {"samples": calibration.samples, "rows": rows}


def _embedded(path: Path) -> dict[str, str]:
    """The picture as a data address.

    Raises:
        AccelError: ``data.sample`` when it cannot be read.
    """
    from accel.builtin.datasets.pictures import decode

    picture = decode(path, path.name).convert("RGB")
    picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return {"name": path.stem, "data": base64.b64encode(buffer.getvalue()).decode("ascii")}


def cell(value: object) -> str:
    """A value as the tables show it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "×".join(cell(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {cell(v)}" for k, v in value.items())
    return str(value)

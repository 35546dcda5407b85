"""The page: what was built, how right and how fast it is, where it differs, and how to do it again."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.builtin.htmlreport import charts
from accel.builtin.htmlreport.labels import of_manifests, of_reports
from accel.builtin.htmlreport.summary import Chart, bars, counts, grids, is_evaluation
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.artifact import Manifest
    from accel.calibration import Calibration
    from accel.report import Report, Table

PICTURE_WIDTH = 480
"""Pixels: larger pictures are scaled down in the page."""
ROWS_SHOWN = 500
WORST_SHOWN = 10
"""Layers shown worst first, above the table of all in execution order."""


def render(
    reports: Sequence[Report],
    manifests: Sequence[Manifest] = (),
    pictures: Sequence[Path] = (),
    *,
    title: str = "Deployment report",
    calibrations: Sequence[Calibration] = (),
    commands: Sequence[str] = (),
    variants: Sequence[str] = (),
    drawn_by: str = "",
) -> str:
    """One HTML page without any other file, script or network access.

    Args:
        reports: Of evaluate and perf, any number an artifact.
        manifests: Of the artifacts.
        pictures: Sample pictures (``accel run --save-images``), embedded.
        title: Of the page.
        calibrations: Their ranges are tabled.
        commands: That made it all, beside those of the reports.
        variants: Of the manifests, where one chip is built for at one precision in several ways.
        drawn_by: The artifact whose results are in the pictures.

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
    built = of_manifests(manifests, variants)
    drawn = [*bars(reports), *_layer_charts(reports)] if charts.available() else []
    return environment.get_template("report.html").render(
        title=title,
        grids=grids(reports),
        counts=counts(reports),
        charts=drawn,
        no_charts="" if charts.available() else "Charts need matplotlib: pip install 'accel-core[report]'",
        manifests=[_manifest_facts(m, n) for m, n in zip(manifests, built, strict=True)],
        reports=[_report_facts(r, n) for r, n in zip(reports, of_reports(reports), strict=True)],
        notes=_notes([r for r in reports if is_evaluation(r)]) + _notes([r for r in reports if not is_evaluation(r)]),
        build_notes=_shared([m.notes for m in manifests], built),
        ranges=[_ranges(c) for c in calibrations],
        pictures=[_embedded(p) for p in pictures],
        drawn_by=drawn_by,
        commands=list(dict.fromkeys([*commands, *(c for r in reports for c in r.commands)])),
    )


def _layer_charts(reports: Sequence[Report]) -> list[Chart]:
    made = []
    for column, title, unit in (("cosine", "Cosine with float by layer", "cosine"), ("SQNR dB", "SQNR by layer", "dB")):
        by_label: dict[str, dict[str, Any]] = {}
        for report, label in zip(reports, of_reports(reports), strict=True):
            table = _layers(report)
            if table is not None and column in table.columns:
                at = table.columns.index(column)
                values = {str(row[0]): row[at] for row in table.rows}
                if values not in by_label.values():  # another batch gives the same line
                    by_label[label] = values
        names = list(dict.fromkeys(n for values in by_label.values() for n in values))
        if len(names) > 1:
            series = {k: [v.get(n) for n in names] for k, v in by_label.items()}
            caption = "Layers in execution order; rows of equal figures are drawn once."
            made.append(Chart(charts.lines(title, names, series, unit), caption))
    return made


def _layers(report: Report) -> Table | None:
    return next((t for t in report.tables if t.title == "layers"), None)


def _worst(report: Report) -> dict[str, Any] | None:
    """The layers farthest from float, by SQNR."""
    table = _layers(report)
    if table is None or "SQNR dB" not in table.columns:
        return None
    at = table.columns.index("SQNR dB")
    known = [row for row in table.rows if isinstance(row[at], (int, float))]
    rows = sorted(known, key=lambda row: float(str(row[at])))[:WORST_SHOWN]
    return {"title": "worst layers", "columns": table.columns, "rows": rows, "left_out": 0} if rows else None


def _manifest_facts(manifest: Manifest, label: str) -> dict[str, Any]:
    placed = Counter((n.place or manifest.target, n.precision, n.op_type) for n in manifest.nodes)
    rows = [(place, precision, op, count) for (place, precision, op), count in placed.most_common()]
    # What left the chip, or the precision that was asked for, stands first.
    rows.sort(key=lambda row: (row[0] == manifest.target, row[1] == manifest.precision))
    return {
        "label": label,
        "size": sum(f.bytes for f in manifest.files if f.role == "model"),
        "backend": manifest.backend,
        "payload": manifest.payload,
        "batches": ", ".join(map(str, manifest.batches)),
        "facts": [
            ("network", manifest.name),
            ("inputs", ", ".join(map(str, manifest.inputs))),
            ("outputs", ", ".join(map(str, manifest.outputs))),
            ("passes", ", ".join(manifest.passes)),
            ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
            ("network digest", manifest.model_digest[:16]),
            ("calibration digest", manifest.calibration_digest[:16]),
        ],
        "placement": rows,
        "files": [(f.path, f.role, f.bytes, f.sha256[:16]) for f in manifest.files],
    }


def _report_facts(report: Report, label: str) -> dict[str, Any]:
    worst = _worst(report)
    return {
        "label": label,
        "title": report.title,
        "tables": [*([worst] if worst else []), *(_cut(table) for table in report.tables if table.rows)],
    }


def _notes(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    return _shared([r.notes for r in reports], of_reports(reports))


def _shared(notes: Sequence[Sequence[str]], labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Every note once, with the rows that it is about; none where it is about all of them."""
    about: dict[str, list[str]] = {}
    for told, label in zip(notes, labels, strict=True):
        for text in dict.fromkeys(told):
            about.setdefault(text, []).append(label)
    return [(text, [] if len(who) == len(labels) else who) for text, who in about.items()]


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
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        size = abs(value)
        if size and (size < 1e-3 or size >= 1e9):
            return f"{value:.3g}"
        return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.4f}"
    if isinstance(value, (list, tuple)):
        return "×".join(cell(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {cell(v)}" for k, v in value.items())
    return str(value)

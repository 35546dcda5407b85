"""How builds and reports look, the same from every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accel.cli.console import emit, number, shown, size, state, table, wide_table, wrapped

if TYPE_CHECKING:
    from accel.errors import AccelError
    from accel.jobs import Built
    from accel.report import Report


def show_built(built: Sequence[Built], extra: Mapping[str, Any] | None = None) -> None:
    """One row an artifact, then what was noted about each, then the usual next command."""
    emit({"artifacts": [built_facts(b) for b in built], **(extra or {})}, lambda: built_text(built))


def built_facts(built: Built) -> dict[str, Any]:
    """One artifact for ``--json``."""
    manifest = built.artifact.manifest
    return {
        "path": built.artifact.path,
        "name": manifest.name,
        "target": manifest.target,
        "precision": manifest.precision,
        "backend": manifest.backend,
        "payload": manifest.payload,
        "batches": manifest.batches,
        "bytes": sum(f.bytes for f in manifest.files if f.role == "model"),
        "seconds": round(built.seconds, 3),
        "cached": built.cached,
        "notes": manifest.notes,
    }


def built_text(built: Sequence[Built]) -> str:
    """The table of ``compile`` and ``build``."""
    rows = []
    for facts in map(built_facts, built):
        time = "cached" if facts["cached"] else f"{facts['seconds']:.1f} s"
        rows.append((facts["target"], facts["precision"], facts["backend"], size(facts["bytes"]), time))
    lines = [table(("target", "precision", "backend", "size", "time"), rows), ""]
    lines += [shown(b.artifact.path) for b in built]
    told: dict[str, list[str]] = {}
    for one in built:
        for note in one.artifact.manifest.notes:
            told.setdefault(note, []).append(one.artifact.manifest.target)
    lines += [wrapped("note", f"{', '.join(dict.fromkeys(who))}: {note}") for note, who in told.items()]
    return "\n".join(lines)


def show_reports(reports: Sequence[Report], failure: AccelError | None = None, extra: Any = None) -> None:
    """Reports with their figures and the command that gives them again; several get one table side by side."""
    reports = [replace(r, commands=r.commands or (state.line,)) for r in reports]
    emit({"reports": list(reports), **(extra or {})}, lambda: reports_text(reports), failure)


def reports_text(reports: Sequence[Report]) -> str:
    """All figures with where they come from, the detail tables, the notes and the commands."""
    if len(reports) > 1:
        return _side_by_side(reports)
    parts = []
    for report in reports:
        who = " ".join(report.subject[k] for k in ("target", "precision") if report.subject.get(k))
        parts.append(f"{report.title}: {who}" if who else report.title)
        # Figures of several stages ("quantized/top1") stand side by side in the table that follows.
        single = [m for m in report.metrics if "/" not in m.name or not report.tables]
        rows = [(m.name, m.value, m.unit, m.provenance, m.source) for m in single]
        if rows:
            parts.append(_without_empty(("figure", "value", "unit", "", "source"), rows))
        for detail in report.tables:
            if detail.rows:
                parts += ["", f"{detail.title}:", _without_empty(detail.columns, detail.rows)]
        if report.notes:
            parts += ["", *(wrapped("note", note) for note in report.notes)]
        parts += [f"again: {line}" for line in report.commands]
    return "\n".join(parts)


_KEYS = ("target", "precision", "variant", "batch", "backend", "figures")


def speeds_text(reports: Sequence[Report]) -> str:
    """Speed of several artifacts and batches, a row each; the page and ``accel perf`` tell more."""
    from accel.report import SPEED_UNITS

    kept = [replace(r, commands=(), metrics=tuple(m for m in r.metrics if m.unit in SPEED_UNITS)) for r in reports]
    return _side_by_side([r for r in kept if r.metrics])


def _side_by_side(reports: Sequence[Report]) -> str:
    """A row a report and a column a figure; what all have in common stands below."""
    sources = [", ".join(dict.fromkeys(m.provenance for m in r.metrics)) for r in reports]
    subjects = [
        [*(r.subject.get(k, "") for k in _KEYS[:-1]), source] for r, source in zip(reports, sources, strict=True)
    ]
    told = [k == "precision" or len({s[at] for s in subjects}) > 1 for at, k in enumerate(_KEYS)]
    keys = [k for k, kept in zip(_KEYS, told, strict=True) if kept]
    names = list(
        dict.fromkeys((m.name, m.unit) for r in reports for m in r.metrics if m.name not in ("samples", "macs"))
    )
    rows = [
        (
            *(int(v) if v.isdigit() else v for v, kept in zip(s, told, strict=True) if kept),
            *(_metric(r, n) for n, _ in names),
        )
        for s, r in zip(subjects, reports, strict=True)
    ]
    parts = [wide_table((*keys, *map(_heading, names)), rows, len(keys))]
    common = [
        f"batch {v}" if k == "batch" else v for k, v in zip(_KEYS, subjects[0], strict=True) if v and k not in keys
    ]
    counts = sorted({str(_metric(r, "samples")) for r in reports} - {"None"})
    common += [f"{', '.join(counts)} samples"] if counts else []
    parts.append("; ".join(common))
    parts += [wrapped("note", note) for note in dict.fromkeys(n for r in reports for n in r.notes)]
    parts += [f"again: {line}" for line in dict.fromkeys(c for r in reports for c in r.commands)]
    return "\n".join(parts)


def _heading(figure: tuple[str, str]) -> str:
    name, unit = figure
    return name if name.lower() == unit.lower() or not unit else f"{name} {unit}"


def _metric(report: Report, name: str) -> object:
    return next((m.value for m in report.metrics if m.name == name), None)


def _without_empty(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The table without columns that hold nothing."""
    kept = [c for c in range(len(columns)) if any(row[c] not in ("", None) for row in rows)]
    return table([columns[c] for c in kept], [[_flat(row[c]) for c in kept] for row in rows])


def _flat(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return "x".join(number(v) for v in value)
    return value

"""What a row is called: its precision, and whatever else tells it from the other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.artifact import Manifest
    from accel.report import Report

_WORDS = ("target", "precision", "variant", "backend", "stage", "batch")


def labels(subjects: Sequence[Mapping[str, str]], otherwise: Sequence[str]) -> list[str]:
    """A label a subject: ``mlu370-s4 force_float16 mutable batch 4``, without what is the same in all of them.

    Args:
        subjects: Plain words by ``target``, ``precision``, ``variant``, ``backend``, ``stage`` and ``batch``.
        otherwise: The label of a subject that says nothing of these.
    """
    differing = [key for key in _WORDS if len({s.get(key, "") for s in subjects}) > 1]
    shown = [k for k in _WORDS if k in differing or k == "precision" or (k == "target" and not differing)]
    found = []
    for subject, title in zip(subjects, otherwise, strict=True):
        words = [f"batch {subject[k]}" if k == "batch" else subject[k] for k in shown if subject.get(k)]
        found.append(" ".join(words) or title)
    return found


def of_reports(reports: Sequence[Report]) -> list[str]:
    """Labels of reports, by their subjects."""
    return labels([r.subject for r in reports], [r.title for r in reports])


def of_manifests(manifests: Sequence[Manifest], variants: Sequence[str]) -> list[str]:
    """Labels of artifacts."""
    held = list(variants) or [""] * len(manifests)
    subjects = [
        {"target": m.target, "precision": m.precision, "backend": m.backend, "variant": v}
        for m, v in zip(manifests, held, strict=True)
    ]
    return labels(subjects, [m.name for m in manifests])

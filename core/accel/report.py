"""A report: what evaluate and perf return. Every figure says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accel.runner import Provenance

SPEED_UNITS = ("FPS", "ms", "us", "s")
"""Units of figures that say how fast something is."""


@dataclass(frozen=True)
class Metric:
    """One figure: ``Metric("top1", 0.9, "", "simulated")``.

    ``unit`` is "" for ratios, else a plain unit (``dB``, ``ms``, ``FPS``, ``B``, ``s``). ``source`` names a formula,
    a file of the vendor or a publication where the figure needs one.
    """

    name: str
    value: float | int | None
    unit: str
    provenance: Provenance
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows below a heading: per layer, per class, per optimisation level."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Report:
    """What a stage found out.

    Attributes:
        title: What was evaluated, for people.
        metrics: The figures.
        tables: Details.
        notes: Skipped samples, non-finite values, fall-backs: a line each, never silent.
        commands: Commands that reproduce the figures.
        subject: Target, precision, backend, artifact path: plain strings.
    """

    title: str
    metrics: tuple[Metric, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    subject: Mapping[str, str] = field(default_factory=dict)

    def metric(self, name: str) -> Metric:
        """The figure with this name.

        Raises:
            KeyError: there is none.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


@dataclass(frozen=True)
class NodeSupport:
    """Whether, where and why a target runs one node (``accel check``)."""

    node: str
    op_type: str
    supported: bool
    place: str = ""
    reason: str = ""

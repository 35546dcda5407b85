"""The embedded evaluator: task figures and the comparison with float, as reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accel.builtin.evaluate.comparison import DIVERGED, TensorComparison, first_divergence
from accel.builtin.evaluate.measuring import Measurement, measure
from accel.errors import AccelError
from accel.options import EvaluateOptions
from accel.report import Metric, Report, Table

if TYPE_CHECKING:
    from accel.dataset import Dataset
    from accel.runner import Provenance, Runner
    from accel.task import Task

OUTPUT_COLUMNS = ("output", "shape", "cosine", "worst cosine", "SQNR dB", "max error", "agreement", "worst sample")
LAYER_COLUMNS = ("layer", "shape", "cosine", "worst cosine", "SQNR dB", "max error", "note")


def evaluate(
    runner: Runner,
    dataset: Dataset,
    task: Task | None = None,
    options: EvaluateOptions | None = None,
    *,
    reference: Runner | None = None,
) -> Report:
    """Task figures of a runner, and its comparison with the float model when ``reference`` is given.

    Metrics: those of the task's meter; ``samples``; with a reference ``cosine``, ``sqnr`` (dB), ``max_error`` and
    ``agreement``, each of the output where it is worst (the table ``outputs`` has every one).

    Raises:
        AccelError: ``usage.evaluate`` when there is neither a task nor a reference, ``data.*`` from the data,
            ``evaluate.outputs`` when the two sides share no output.
    """
    reports = evaluate_stages({"": runner}, dataset, task, options, reference=reference)
    return reports[0]


def compare(
    runner: Runner,
    reference: Runner,
    dataset: Dataset,
    *,
    layers: bool = False,
    samples: int = 0,
    skip_bad: bool = False,
) -> Report:
    """Float against artifact over a data set, without a task."""
    options = EvaluateOptions(layers=layers, samples=samples, skip_bad=skip_bad)
    return evaluate(runner, dataset, None, options, reference=reference)


def evaluate_stages(
    runners: Mapping[str, Runner],
    dataset: Dataset,
    task: Task | None = None,
    options: EvaluateOptions | None = None,
    *,
    reference: Runner | None = None,
) -> list[Report]:
    """One report a runner, all from one pass over the data; ``side_by_side`` puts them in one.

    Args:
        runners: By label (``float``, ``calibrated``, ``quantized``, ``chip``).
        dataset: Read once.
        task: Gives the task figures; None: comparison only.
        options: As for the stage.
        reference: The float model.
    """
    chosen = options or EvaluateOptions()
    against = reference if chosen.reference else None
    _bar(chosen)  # a wrong one is refused before the work
    if task is None and against is None:
        raise AccelError(
            "there is nothing to evaluate",
            code="usage.evaluate",
            stage="evaluate",
            cause="neither a task nor a float model was given",
            hints=["Name a task (--task classification) or the float model (--against model.onnx)."],
        )
    skipping = getattr(dataset, "skipping_bad", None)
    if chosen.skip_bad and skipping is not None:
        dataset = skipping()
    measured, seen = measure(runners, dataset, task, chosen, against)
    said = tuple(getattr(dataset, "notes", ()))
    return [_report(label, result, seen, chosen, task, said) for label, result in measured.items()]


def side_by_side(reports: Mapping[str, Report], title: str = "stages") -> Report:
    """Several reports as one: a row a metric, a column a label; layers by cosine, a column each.

    Metrics keep their provenance under ``<label>/<name>``.
    """
    labels = list(reports)
    names = list(dict.fromkeys(m.name for report in reports.values() for m in report.metrics))
    rows = [(name, *(_value(reports[label], name) for label in labels)) for name in names]
    tables = [Table(title, ("metric", *labels), tuple(rows))]
    layers = {label: _layer_cosines(report) for label, report in reports.items()}
    if order := list(dict.fromkeys(name for found in layers.values() for name in found)):
        cosines = tuple((name, *(layers[label].get(name) for label in labels)) for name in order)
        tables.append(Table("layers by cosine", ("layer", *labels), cosines))
    metrics = [replace(m, name=f"{label}/{m.name}") for label, report in reports.items() for m in report.metrics]
    notes = list(dict.fromkeys(f"{label}: {note}" for label, report in reports.items() for note in report.notes))
    subject = {label: report.subject.get("device", "") for label, report in reports.items()}
    return Report(title, tuple(metrics), tuple(tables), tuple(notes), (), subject)


def _report(
    label: str, result: Measurement, seen: int, options: EvaluateOptions, task: Task | None, said: Sequence[str]
) -> Report:
    runner = result.runner
    metrics: list[Metric] = [Metric("samples", seen, "", runner.provenance)]
    tables: list[Table] = []
    notes = [*said, *result.notes]
    if result.meter is not None:
        units = getattr(result.meter, "units", {})
        metrics += [
            Metric(name, value, units.get(name, ""), runner.provenance)
            for name, value in result.meter.metrics().items()
        ]
        tables += result.meter.tables()
        notes += getattr(result.meter, "notes", list)()
    outputs, layers = list(result.outputs.values()), list(result.layers.values())
    if outputs:
        metrics += _comparison_metrics(outputs, runner.provenance)
        tables.append(Table("outputs", OUTPUT_COLUMNS, tuple(map(_output_row, outputs))))
    if layers:
        tables.append(Table("layers", LAYER_COLUMNS, tuple(map(_layer_row, [*layers, *outputs]))))
        notes.append(_divergence([*layers, *outputs], _bar(options)))
    notes += [note for compared in (*outputs, *layers) for note in compared.notes()]
    subject = {"device": runner.device, "samples": str(seen), "task": task.name if task else ""}
    if label:
        subject["stage"] = label
    return Report(f"evaluation on {runner.device}", tuple(metrics), tuple(tables), tuple(notes), (), subject)


def _comparison_metrics(outputs: Sequence[TensorComparison], provenance: Provenance) -> list[Metric]:
    def lowest(values: list[float | None]) -> float | None:
        return min((v for v in values if v is not None), default=None)

    compared = [o for o in outputs if o.samples]
    agreement = lowest([o.agreement for o in compared])
    return [
        Metric("cosine", lowest([o.cosine for o in compared]), "", provenance),
        Metric("sqnr", lowest([o.sqnr for o in compared]), "dB", provenance),
        Metric("max_error", _largest([o.max_error for o in compared]), "", provenance),
        *([] if agreement is None else [Metric("agreement", agreement, "", provenance)]),
    ]


def _bar(options: EvaluateOptions) -> float:
    text = options.extra.get("diverged", "")
    try:
        return float(text) if text else DIVERGED
    except ValueError as error:
        raise AccelError(f"diverged={text!r} is no number", code="usage.evaluate", stage="evaluate") from error


def _largest(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if known and len(known) == len(values) else None


def _output_row(item: TensorComparison) -> tuple[object, ...]:
    return (*_row(item), item.agreement, item.worst)


def _layer_row(item: TensorComparison) -> tuple[object, ...]:
    return (*_row(item), item.mismatch or (f"not finite in {item.broken} samples" if item.broken else ""))


def _row(item: TensorComparison) -> tuple[object, ...]:
    if not item.samples:
        return (item.name, "", None, None, None, None)
    return (item.name, list(item.shape), item.cosine, item.worst_cosine, item.sqnr, item.max_error)


def _divergence(layers: Sequence[TensorComparison], bar: float) -> str:
    found = first_divergence(layers, bar)
    rule = f"criterion: mean cosine below {bar:g} or values that are not finite, in execution order"
    if found is None:
        return f"no layer diverges ({rule})"
    how = "not finite" if found.broken else f"mean cosine {found.cosine:.4f}"
    return f"first layer that diverges: {found.name}, {how} ({rule})"


def _value(report: Report, name: str) -> Any:
    return next((m.value for m in report.metrics if m.name == name), None)


def _layer_cosines(report: Report) -> dict[str, Any]:
    table = next((t for t in report.tables if t.title == "layers"), None)
    return {str(row[0]): row[2] for row in table.rows} if table else {}

"""``accel.toml``: one deployment in a file, with paths relative to it."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from accel.deployment import Bars, Data, Deployment, Request
from accel.errors import AccelError
from accel.options import Backend, BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions
from accel.preprocessing import Preprocessing

Words = str | int | float | bool
_FILES = frozenset({"root", "images", "masks", "palette", "synsets", "truth", "labels", "priors"})


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ModelTable(_Table):
    """``[model]``: the network's file and how it is parsed."""

    source: str
    weights: str = ""
    frontend: str = "auto"
    name: str = ""
    shapes: dict[str, tuple[int, ...]] = {}
    outputs: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    simplify: bool = True
    options: dict[str, Words] = {}


class DataTable(_Table):
    """``[data]``: samples to calibrate and to evaluate on."""

    calibration: str = ""
    calibration_file: str = ""
    calibration_samples: int = 0
    evaluation: str = ""
    evaluation_samples: int = 0
    labels: str = ""
    skip_bad: bool = False
    options: dict[str, Words] = {}
    calibration_options: dict[str, Words] = {}
    evaluation_options: dict[str, Words] = {}


class TaskTable(_Table):
    """``[task]``: what the outputs mean."""

    name: str
    options: dict[str, Words] = {}


class BuildTable(_Table):
    """``[build]``: for every target; ``[[targets]]`` takes the same names."""

    precision: str | tuple[str, ...] = ()
    backend: Backend | None = None
    method: str | None = None
    calibrator: Literal["accel", "vendor"] | None = None
    batches: tuple[int, ...] | None = None
    dynamic: bool | None = None
    opt: int | None = None
    cores: int | None = None
    node_precisions: dict[str, str] | None = None
    fold_preprocessing: bool | None = None
    int_io: tuple[Literal["input", "output"], ...] | None = None
    passes: dict[str, bool] | None = None
    set: dict[str, Words] | None = None


class TargetTable(BuildTable, kw_only=True):
    """``[[targets]]``: one chip, with what differs for it."""

    name: str
    variant: str = ""


class EvaluateTable(_Table):
    """``[evaluate]``: how the comparison is done."""

    against_float: bool = True
    layers: bool = False
    topk: int = 5
    stages: tuple[str, ...] = ()
    every_batch: bool = False


class MetricsTable(_Table):
    """``[metrics]``: bars by metric name; below them the exit code is 5."""

    min: dict[str, float] = {}
    max: dict[str, float] = {}


class RecipeFile(_Table):
    """The whole file."""

    model: ModelTable
    targets: tuple[TargetTable, ...] = ()
    preprocessing: dict[str, Any] = {}
    data: DataTable = msgspec.field(default_factory=DataTable)
    task: TaskTable | None = None
    build: BuildTable = msgspec.field(default_factory=BuildTable)
    evaluate: EvaluateTable = msgspec.field(default_factory=EvaluateTable)
    metrics: MetricsTable = msgspec.field(default_factory=MetricsTable)
    output: str = "build"
    report: str = ""


def load(path: Path) -> Deployment:
    """Read a recipe.

    Args:
        path: The file, or the folder that holds an ``accel.toml``.

    Raises:
        AccelError: ``usage.recipe`` naming the key, with near names.
    """
    path = path / "accel.toml" if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AccelError(
            f"cannot read the recipe {path}", code="usage.recipe", cause=error.strerror or str(error)
        ) from error
    file, preprocessing = _decode(path, data)
    return _deployment(file, preprocessing, path.parent)


def _decode(path: Path, data: bytes) -> tuple[RecipeFile, Preprocessing | None]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AccelError(f"{path} is no TOML", code="usage.recipe", cause=str(error)) from error
    text = data.decode("utf-8")
    try:
        file = msgspec.convert(raw, RecipeFile)
    except msgspec.ValidationError as error:
        raise _invalid(path, text, str(error)) from error
    try:
        return file, _preprocessing(file.preprocessing)
    except msgspec.ValidationError as error:
        raise _invalid(path, text, str(error).replace("`$", "`$.preprocessing", 1)) from error


def _invalid(path: Path, text: str, why: str) -> AccelError:
    """msgspec's ``why`` in the recipe's own words, with the line."""
    hints = []
    place = re.search(r" - at `\$\.?(.*)`", why)
    where = place.group(1) if place else ""
    unknown = re.search(r"unknown field `(.+?)`", why)
    if unknown:
        name = unknown.group(1)
        hints = _near(name, _fields(where))
        table = re.sub(r"\[.*?\]", "", where)
        why = f"unknown key {name!r}" + (f" in [{table}]" if table else "")
    else:
        where, _, name = re.sub(r"(\[\d+\])+$", "", where).rpartition(".")
    line = line_of(text, where, name)
    at = f"{path}, line {line}" if line else str(path)
    return AccelError(f"{at}: this is no recipe", code="usage.recipe", cause=why, hints=hints)


def _near(name: str, known: Sequence[str]) -> list[str]:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return [f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."]


def line_of(text: str, table: str, key: str) -> int:
    """The line (from 1) where ``key`` is set in ``table``; 0 when it is not found.

    Args:
        text: Of the TOML file.
        table: ``model``, ``targets[1]``, ``data.options``, or "" for the top.
        key: A key or a table of it.
    """
    counts: dict[str, int] = {}
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*(.+?)\s*\]", line)
        if header:
            here = header.group(2)
            if header.group(1) == "[[":
                at = counts.get(here, -1) + 1
                counts[here] = at
                here = f"{here}[{at}]"
            bare = re.sub(r"\[\d+\]", "", here)
            if f"{bare}.".startswith(f"{table}.{key}.".lstrip(".")):
                return number
        elif here == table and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""", line):
            return number
    return 0


_PLACES: dict[str, type[_Table]] = {
    "model": ModelTable,
    "data": DataTable,
    "task": TaskTable,
    "build": BuildTable,
    "targets": TargetTable,
    "evaluate": EvaluateTable,
    "metrics": MetricsTable,
    "": RecipeFile,
}


def _fields(where: str) -> list[str]:
    if where == "preprocessing":
        return [f.name for f in dataclasses.fields(Preprocessing)]
    table = _PLACES.get(re.split(r"[.\[]", where)[0], RecipeFile)
    return [f.name for f in msgspec.structs.fields(table)]


def _deployment(file: RecipeFile, preprocessing: Preprocessing | None, folder: Path) -> Deployment:
    from accel.builtin.datasets.labels import read_labels

    model, data = file.model, file.data
    labels = folder / data.labels if data.labels else None
    base = replace(_build_options(file.build, BuildOptions()), preprocessing=preprocessing)
    everywhere = {**_words(data.options), **({"skip_bad": "yes"} if data.skip_bad else {})}
    task_options = _located(_words(file.task.options), folder) if file.task else {}
    if labels is not None and file.task is not None:
        task_options.setdefault("labels", str(labels))
    return Deployment(
        source=_source(model.source, folder),
        output=folder / file.output,
        report=folder / file.report if file.report else None,
        requests=tuple(_request(t, file.build, base) for t in file.targets),
        parse=ParseOptions(
            frontend=model.frontend,
            weights=folder / model.weights if model.weights else None,
            input_shapes=model.shapes,
            output_names=model.outputs,
            renames=model.rename,
            simplify=model.simplify,
            name=model.name,
            extra=_words(model.options),
        ),
        calibrate=CalibrateOptions(samples=data.calibration_samples),
        preprocessing=preprocessing,
        calibration_data=_data(
            data.calibration, folder, data.calibration_samples, {**everywhere, **_words(data.calibration_options)}
        ),
        calibration_file=folder / data.calibration_file if data.calibration_file else None,
        evaluation_data=_data(
            data.evaluation,
            folder,
            data.evaluation_samples,
            {
                **everywhere,
                **({"labels": str(labels)} if labels is not None else {}),
                **_words(data.evaluation_options),
            },
        ),
        evaluate=EvaluateOptions(
            samples=data.evaluation_samples,
            reference=file.evaluate.against_float,
            layers=file.evaluate.layers,
            skip_bad=data.skip_bad,
            topk=file.evaluate.topk,
            stages=file.evaluate.stages,
        ),
        every_batch=file.evaluate.every_batch,
        task=file.task.name if file.task else "",
        task_options=task_options,
        labels=read_labels(labels) if labels is not None else (),
        bars=Bars(file.metrics.min, file.metrics.max),
    )


def _request(table: TargetTable, everywhere: BuildTable, base: BuildOptions) -> Request:
    given = table.precision or everywhere.precision
    precisions = (given,) if isinstance(given, str) else given
    if table.variant and not re.fullmatch(r"[A-Za-z0-9_]+", table.variant):
        raise AccelError(
            f"the variant {table.variant!r} cannot end a folder's name",
            code="usage.recipe",
            hints=["Letters, digits and _ can."],
        )
    return Request(table.name, precisions or ("",), _build_options(table, base), table.variant)


def _build_options(table: BuildTable, base: BuildOptions) -> BuildOptions:
    names = [f.name for f in msgspec.structs.fields(BuildTable) if f.name != "precision"]
    changes: dict[str, Any] = {n: getattr(table, n) for n in names if getattr(table, n) is not None}
    if "set" in changes:
        changes["set"] = {**base.set, **_words(changes["set"])}
    if "int_io" in changes:
        changes["int_io"] = frozenset(changes["int_io"])
    return replace(base, **changes)


def _preprocessing(table: Mapping[str, Any]) -> Preprocessing | None:
    """The data class of the table.

    Raises:
        msgspec.ValidationError: as if it were strict.
    """
    if not table:
        return None
    for name in table:
        if name not in _fields("preprocessing"):
            raise msgspec.ValidationError(f"unknown field `{name}` - at `$`")
    # One number is as good as a list of one.
    listed = {k: [v] if k in ("mean", "std") and isinstance(v, (int, float)) else v for k, v in table.items()}
    return msgspec.convert(listed, Preprocessing)


def _data(source: str, folder: Path, samples: int, options: Mapping[str, str]) -> Data:
    limited = {**_located(options, folder), **({"samples": str(samples)} if samples else {})}
    return Data(_source(source, folder) if source else "", limited)


def _located(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Options of data readers and tasks that name files, relative to the recipe where such a file is."""
    return {k: str(folder / v) if k in _FILES and v and (folder / v).exists() else v for k, v in options.items()}


def _source(source: str, folder: Path) -> str:
    """A path relative to the recipe; the kind before a colon stays."""
    if (folder / source).exists():
        return str(folder / source)
    kind, colon, rest = source.partition(":")
    if colon and re.fullmatch(r"[a-z_]+", kind):
        return f"{kind}:{folder / rest}"
    return str(folder / source)


def _words(table: Mapping[str, Words]) -> dict[str, str]:
    return {k: ("yes" if v else "no") if isinstance(v, bool) else str(v) for k, v in table.items()}

"""``accel run``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, number, shown, table
from accel.cli.grouped import Sections, grouped

if TYPE_CHECKING:
    import numpy as np

    from accel.artifact import Artifact
    from accel.dataset import Sample
    from accel.preprocessing import Preprocessing
    from accel.runner import Runner
    from accel.task import Task


_inputs = partial(typer.Option, rich_help_panel="Samples")
_meaning = partial(typer.Option, rich_help_panel="What the outputs mean")

app = family()


@dataclass(frozen=True)
class InputFlags:
    """What the artifact runs on, beside the INPUTs."""

    image_dir: Annotated[
        Path | None, _inputs("--image-dir", metavar="DIR", help="Folder of pictures, as one more INPUT.")
    ] = None
    file_list: Annotated[
        Path | None, _inputs("--file-list", metavar="FILE", help="List of pictures, one a line, as one more INPUT.")
    ] = None
    image_num: Annotated[
        int, _inputs("--image-num", min=0, metavar="N", show_default=False, help="At most this many samples; 0: all.")
    ] = 0
    skip_bad: flags.SkipBad = False
    data_option: flags.DataOption = None


@dataclass(frozen=True)
class TaskFlags:
    """What the outputs mean."""

    task: Annotated[str, _meaning("--task", metavar="NAME", help="Default: classification where it fits.")] = ""
    task_option: Annotated[flags.Words, _meaning("--task-option", metavar="NAME=VALUE", help="Option of the task.")] = (
        None
    )
    labels: Annotated[Path | None, _meaning("--labels", metavar="FILE", help="Class names, one a line.")] = None
    top: Annotated[int, _meaning("--top", min=1, metavar="N", help="Classes to show.")] = 5
    min_score: Annotated[
        float | None, _meaning("--min-score", min=0, max=1, metavar="S", help="Detectors: least score of a box.")
    ] = None
    max_boxes: Annotated[
        int | None, _meaning("--max-boxes", min=1, metavar="N", help="Detectors: boxes a picture.")
    ] = None
    save_images: Annotated[
        Path | None, _meaning("--save-images", metavar="DIR", help="Folder for pictures with the results drawn in.")
    ] = None


@app.command(cls=Sections)
@grouped
def run(
    *,
    artifact: flags.Artifact,
    inputs: Annotated[
        flags.Words, typer.Argument(metavar="INPUT...", help="Pictures, folders, lists or arrays.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Where outputs go: .npz or .json.")] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=0, metavar="N", help="Time this many runs of the first sample.")
    ] = 0,
    warmup: Annotated[int, typer.Option("--warmup", min=0, metavar="N", help="Runs before the timing.")] = 1,
    simulator: flags.Simulator = "",
    device: flags.Device = "auto",
    given: InputFlags,
    task: TaskFlags,
    preprocessing: flags.PreprocessingFlags,
) -> None:
    """Run an artifact on pictures or arrays.

    INPUT is a picture, a folder, a list file, .npy, .npz or raw .bin; NAME=FILE feeds one input of several.

    \b
    Examples:
      accel run build/net-bm1684-int8 cat.jpg
      accel run build/net-bm1684-int8 photos/ -o outputs.npz
      accel run build/net-bm1684-int8 x.npy --repeat 20
      accel run build/ssd-bm1684-int8 photos/ --task ssd --save-images found/
    """
    from accel import driver
    from accel.errors import AccelError
    from accel.options import RunOptions

    words = list(inputs or ())
    if given.image_dir is not None:
        words.append(f"folder:{given.image_dir}")
    if given.file_list is not None:
        words.append(f"list:{given.file_list}")
    if not words:
        raise AccelError("there is nothing to run on", code="usage.arguments", hints=[f"accel run {artifact} photos/"])
    opened = driver.open_artifact(artifact)
    samples = _samples(opened, words, preprocessing.over(opened.manifest.preprocessing), given)
    options = RunOptions(simulator=simulator, device=device)
    with driver.run(opened, options) as runner:
        results = _results(runner, samples)
        timing = _timing(runner, results[0][0], repeat, warmup) if repeat else None
        decoder = _decoder(opened, runner, task)
        if task.save_images is not None and decoder is None:
            raise AccelError(
                "--save-images needs to know what the outputs mean",
                code="usage.task",
                hints=["--task ssd, for example"],
            )
        device, provenance = runner.device, runner.provenance
    if out is not None:
        _write(out, results)
    predictions = [decoder.decode(outputs, sample) for sample, outputs in results] if decoder is not None else None
    if task.save_images is not None and decoder is not None and predictions is not None:
        _draw(decoder, predictions, results, task.save_images)
    result = {
        "artifact": opened.path,
        "device": device,
        "samples": [
            {"name": sample.name, "outputs": [_facts(n, a) for n, a in outputs.items()]} for sample, outputs in results
        ],
        "predictions": predictions,
        "timing": timing,
        "provenance": provenance,
        "output": out,
    }

    def text() -> str:
        lines: list[str] = []
        for at, (sample, outputs) in enumerate(results):
            lines.append(sample.name)
            if predictions is not None and "classes" in predictions[at]:
                rows = [(c["label"], c["score"]) for c in predictions[at]["classes"]]
                lines += ["  " + line for line in table(("class", "score"), rows, 78).splitlines()]
            elif predictions is not None and "boxes" in predictions[at]:
                found = [
                    (b["label"], b["score"], " ".join(f"{v:.1f}" for v in b["box"])) for b in predictions[at]["boxes"]
                ]
                lines += ["  " + line for line in table(("class", "score", "x1 y1 x2 y2"), found, 78).splitlines()]
            elif predictions is not None and "shares" in predictions[at]:
                shares = [(c["label"], c["share"]) for c in predictions[at]["shares"]]
                lines += ["  " + line for line in table(("class", "share of pixels"), shares, 78).splitlines()]
            else:
                rows_ = [_row(n, a) for n, a in outputs.items()]
                shown_ = table(("output", "type", "shape", "min", "mean", "max"), rows_, 78)
                lines += ["  " + line for line in shown_.splitlines()]
        if timing is not None:
            lines.append(
                f"{number(timing['median_ms'])} ms a run (median of {repeat}, "
                f"min {number(timing['min_ms'])}): {timing['meaning']}"
            )
        if out is not None:
            lines.append(f"written: {shown(out)}")
        return "\n".join(lines)

    emit(result, text)


def _samples(
    artifact: Artifact, inputs: list[str], preprocessing: Preprocessing | None, given: InputFlags
) -> list[Sample]:
    from accel import driver
    from accel.dataset import Sample
    from accel.errors import AccelError

    options = flags.reader_options(given.data_option, 0, given.skip_bad)
    names = {spec.name for spec in artifact.manifest.inputs}
    named = [word.partition("=") for word in inputs if word.partition("=")[0] in names and "=" in word]
    if named and len(named) < len(inputs):
        raise AccelError("give either NAME=FILE for every input or plain files", code="usage.input")
    if named:
        specs = {spec.name: spec for spec in artifact.manifest.inputs}
        if missing := names - {n for n, _, _ in named}:
            raise AccelError(f"no file for the input {sorted(missing)[0]!r}", code="usage.input")
        feeds = {}
        for name, _, file in named:
            # One input at a time, as if it were the only one.
            single = replace(artifact, manifest=replace(artifact.manifest, inputs=(specs[name],)))
            feeds[name] = next(iter(driver.open_dataset(file, single, preprocessing, options))).inputs[name]
        return [Sample("inputs", feeds)]
    read = (s for word in inputs for s in driver.open_dataset(word, artifact, preprocessing, options))
    return list(islice(read, given.image_num or None))


def _results(runner: Runner, samples: list[Sample]) -> list[tuple[Sample, dict[str, np.ndarray]]]:
    """Every sample's outputs; a runner of a fixed batch gets full batches."""
    from accel.builtin.datasets.batches import batch_size, batches, split, stack
    from accel.errors import AccelError, stage
    from accel.progress import step

    if not samples:
        raise AccelError("there is no sample to run", code="data.empty")
    size = batch_size(runner.inputs)
    done: list[tuple[Sample, dict[str, np.ndarray]]] = []
    with stage("run"), step(f"run on {runner.device}", len(samples)) as progress:
        for group in batches(samples, size):
            outputs = split(runner.run(stack(group, size)), size)
            done += list(zip(group, outputs, strict=False))
            progress.advance(len(group))
    return done


def _timing(runner: Runner, sample: Sample, repeat: int, warmup: int) -> dict[str, Any]:
    from statistics import median

    from accel.builtin.datasets.batches import batch_size, stack

    feeds = stack([sample], batch_size(runner.inputs))
    for _ in range(warmup):
        runner.run(feeds)
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        runner.run(feeds)
        seconds.append(time.perf_counter() - started)
    host = runner.provenance != "measured"
    return {
        "repeat": repeat,
        "median_ms": median(seconds) * 1e3,
        "min_ms": min(seconds) * 1e3,
        "max_ms": max(seconds) * 1e3,
        "meaning": f"time of the simulator on this host ({runner.device}), not of the chip" if host else "measured",
    }


def _decoder(artifact: Artifact, runner: Runner, given: TaskFlags) -> Task | None:
    """The task that was asked for, or classification when there are labels and one vector of scores."""
    from accel import driver

    name = given.task
    if not name:
        one = len(runner.outputs) == 1 and len([d for d in runner.outputs[0].shape if d != 1]) <= 2
        if not (one and (artifact.manifest.labels or given.labels)):
            return None
        name = "classification"
    options = flags.pairs(given.task_option, "--task-option")
    if name == "classification":
        options.setdefault("topk", str(given.top))
    if given.labels is not None:
        options.setdefault("labels", str(given.labels))
    if given.min_score is not None:
        options |= {"score": str(given.min_score), "show": str(given.min_score)}
    if given.max_boxes is not None:
        options["keep"] = str(given.max_boxes)
    return driver.make_task(name, options, artifact)


def _write(out: Path, results: list[tuple[Sample, dict[str, np.ndarray]]]) -> None:
    """``.npz``: outputs of all samples joined along the batch, and their names; ``.json``: lists."""
    import json

    import numpy as np

    from accel.errors import AccelError, stage
    from accel.files import atomic_file

    with stage("run"):
        if out.suffix == ".npz":
            arrays: dict[str, Any] = {"sample_names": np.array([s.name for s, _ in results])}
            for name in results[0][1]:
                parts = [outputs[name] for _, outputs in results]
                if len({p.shape[1:] for p in parts}) == 1:
                    arrays[name] = np.concatenate(parts)
                else:
                    arrays.update({f"{at}/{name}": part for at, part in enumerate(parts)})
            with atomic_file(out) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)
        elif out.suffix == ".json":
            plain = [{"name": s.name, "outputs": {n: a.tolist() for n, a in o.items()}} for s, o in results]
            with atomic_file(out) as temporary:
                temporary.write_text(json.dumps(plain))
        else:
            raise AccelError(f"{out} is neither .npz nor .json", code="usage.output")


def _draw(task: Task, predictions: list[Any], results: list[tuple[Sample, Any]], folder: Path) -> None:
    from accel.errors import stage

    with stage("run"):
        folder.mkdir(parents=True, exist_ok=True)
        for at, ((sample, _), prediction) in enumerate(zip(results, predictions, strict=True)):
            task.draw(prediction, sample, folder / f"{at:04d}-{Path(sample.name).stem}.png")


def _facts(name: str, array: np.ndarray) -> dict[str, Any]:
    low, mean, high = _spread(array)
    return {"name": name, "dtype": array.dtype.name, "shape": array.shape, "min": low, "mean": mean, "max": high}


def _row(name: str, array: np.ndarray) -> tuple[object, ...]:
    return (name, array.dtype.name, "x".join(map(str, array.shape)), *_spread(array))


def _spread(array: np.ndarray) -> tuple[float | None, float | None, float | None]:
    if not array.size:
        return None, None, None
    return float(array.min()), float(array.mean()), float(array.max())

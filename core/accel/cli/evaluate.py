"""``accel evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli import flags
from accel.cli.results import show_reports

_BARS = {
    "min_top1": "top1",
    "min_top5": "top5",
    "min_cosine": "cosine",
    "min_sqnr": "sqnr",
    "min_agreement": "agreement",
}


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=flags.PATH, metavar="ARTIFACT...")
@click.option("--against", default="", metavar="MODEL", help="Float network to compare with.")
@click.option("--task", default="", help="classification ...; default: only the comparison.")
@flags.many("--task-option", "NAME=VALUE", "Option of the task.")
@click.option("--topk", type=click.IntRange(1), default=5, help="The k of top-k.")
@flags.flag("--layers", "Compare inner tensors too, and name the first that diverges.")
@click.option("--stages", default="", metavar="A,B", help="Stages side by side, where the chip's tools have them.")
@click.option("--min-top1", type=float, help="Exit 5 below this.")
@click.option("--min-top5", type=float, help="Exit 5 below this.")
@click.option("--min-cosine", type=float, help="Exit 5 below this.")
@click.option("--min-sqnr", type=float, help="Exit 5 below this many dB.")
@click.option("--min-agreement", type=float, help="Exit 5 below this.")
@flags.many("--min", "METRIC=VALUE", "Exit 5 below this, for any metric.", "least")
@click.option("--simulator", default="", help="Which simulator of the vendor.")
@click.option("--device", default="auto", help="auto, simulator or a device number.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Simulator processes side by side.")
@flags.data_flags
@flags.preprocessing_flags
@flags.parse_flags
def command(artifacts: tuple[Path, ...], **given: Any) -> None:
    """Measure how right artifacts are.

    With --task on labelled data, with --against the float network, or both. Below a --min bar the exit code is 5.

    \b
    Examples:
      accel evaluate build/net-bm1684-int8 -d photos/ --against net.onnx --layers
      accel evaluate build/* -d val/ --task classification --min-top1 0.75
    """
    from dataclasses import replace

    from accel import deployment as work
    from accel import driver
    from accel.errors import AccelError
    from accel.options import EvaluateOptions, RunOptions

    if not given["data"]:
        raise AccelError("evaluation needs samples", code="usage.data", hints=["Give a folder: --data photos/"])
    if not given["task"] and not given["against"]:
        raise AccelError(
            "there is nothing to compare with",
            code="usage.evaluate",
            hints=["The float network: --against net.onnx", "Labelled data: --task classification"],
        )
    bars = {metric: given[option] for option, metric in _BARS.items() if given[option] is not None}
    for name, value in flags.pairs(given["least"], "--min").items():
        bars[name] = flags.numbers(value, "--min")[0]
    opened = [driver.open_artifact(path) for path in artifacts]
    model = (
        driver.parse(given["against"], flags.parse_options(given), cache=flags.cache_of(False))
        if given["against"]
        else None
    )
    options = flags.data_options(given)
    if given["labels"] is not None:
        options["labels"] = str(given["labels"])
    task_options = flags.pairs(given["task_option"], "--task-option")
    if given["task"] and given["labels"] is not None:
        task_options.setdefault("labels", str(given["labels"]))
    plan = work.Deployment(
        source=given["against"],
        output=Path(),
        evaluation_data=work.Data(given["data"], options),
        evaluate=EvaluateOptions(
            samples=given["samples"],
            layers=given["layers"],
            skip_bad=given["skip_bad"],
            topk=given["topk"],
            stages=tuple(w for w in given["stages"].split(",") if w),
        ),
        run=RunOptions(simulator=given["simulator"], device=given["device"], workers=given["workers"]),
        task=given["task"],
        task_options=task_options,
        bars=work.Bars(least=bars),
    )
    reports = []
    for artifact in opened:
        pre = flags.preprocessing(artifact.manifest.preprocessing, given)
        reports.append(work.evaluate(replace(plan, preprocessing=pre), artifact, model))
    show_reports(reports, work.require(reports, plan.bars))

"""``accel evaluate``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.grouped import Sections, grouped
from accel.cli.results import show_reports

_bar = partial(typer.Option, rich_help_panel="Exit 5 below", metavar="VALUE")

app = family()


@dataclass(frozen=True)
class BarFlags:
    """What the figures must reach."""

    top1: Annotated[float | None, _bar("--min-top1", help="Share of right first answers.")] = None
    top5: Annotated[float | None, _bar("--min-top5", help="Share of right answers among five.")] = None
    cosine: Annotated[float | None, _bar("--min-cosine", help="Cosine of the outputs against float.")] = None
    sqnr: Annotated[float | None, _bar("--min-sqnr", help="Signal to quantisation noise, in dB.")] = None
    agreement: Annotated[float | None, _bar("--min-agreement", help="Share of answers that float gives too.")] = None
    others: Annotated[
        flags.Words, typer.Option("--min", rich_help_panel="Exit 5 below", metavar="METRIC=VALUE", help="Any metric.")
    ] = None

    def least(self) -> dict[str, float]:
        """Bars by metric."""
        named = {name: value for name, value in asdict(self).items() if name != "others" and value is not None}
        return named | {k: flags.numbers(v, "--min")[0] for k, v in flags.pairs(self.others, "--min").items()}


@app.command(cls=Sections)
@grouped
def evaluate(
    *,
    artifacts: flags.Artifacts,
    against: Annotated[str, typer.Option("--against", metavar="MODEL", help="Float network to compare with.")] = "",
    task: Annotated[
        str, typer.Option("--task", metavar="NAME", help="classification ...; default: only the comparison.")
    ] = "",
    task_option: Annotated[
        flags.Words, typer.Option("--task-option", metavar="NAME=VALUE", help="Option of the task.")
    ] = None,
    topk: Annotated[int, typer.Option("--topk", min=1, metavar="K", help="The k of top-k.")] = 5,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare inner tensors too, and name the first that diverges.")
    ] = False,
    stages: Annotated[
        str, typer.Option("--stages", metavar="A,B", help="Stages side by side, where the chip's tools have them.")
    ] = "",
    simulator: flags.Simulator = "",
    device: flags.Device = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Simulator processes side by side.")
    ] = 1,
    bars: BarFlags,
    data: flags.DataFlags,
    preprocessing: flags.PreprocessingFlags,
    parse: flags.ParseFlags,
) -> None:
    """Measure how right artifacts are.

    With --task on labelled data, with --against the float network, or both. Below a --min bar the exit code is 5.

    \b
    Examples:
      accel evaluate build/net-bm1684-int8 -d photos/ --against net.onnx --layers
      accel evaluate build/* -d val/ --task classification --min-top1 0.75
    """
    from accel import deployment as work
    from accel import driver
    from accel.errors import AccelError
    from accel.options import EvaluateOptions, RunOptions

    if not data.data:
        raise AccelError("evaluation needs samples", code="usage.data", hints=["Give a folder: --data photos/"])
    if not task and not against:
        raise AccelError(
            "there is nothing to compare with",
            code="usage.evaluate",
            hints=["The float network: --against net.onnx", "Labelled data: --task classification"],
        )
    driver.require_data(data.data)
    least = bars.least()
    opened = [driver.open_artifact(path) for path in artifacts]
    model = driver.parse(against, parse.options(), cache=flags.cache_of(False)) if against else None
    options = data.options()
    task_options = flags.pairs(task_option, "--task-option")
    if data.labels is not None:
        options["labels"] = str(data.labels)
        if task:
            task_options.setdefault("labels", str(data.labels))
    plan = work.Deployment(
        source=against,
        output=Path(),
        evaluation_data=work.Data(data.data, options),
        evaluate=EvaluateOptions(
            samples=data.samples,
            layers=layers,
            skip_bad=data.skip_bad,
            topk=topk,
            stages=tuple(w for w in stages.split(",") if w),
        ),
        run=RunOptions(simulator=simulator, device=device, workers=workers),
        task=task,
        task_options=task_options,
        bars=work.Bars(least=least),
    )
    reports = []
    for artifact in opened:
        pre = preprocessing.over(artifact.manifest.preprocessing)
        reports.append(work.evaluate(replace(plan, preprocessing=pre), artifact, model))
    show_reports(reports, work.require(reports, plan.bars))

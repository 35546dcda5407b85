"""``accel recipe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown, state
from accel.cli.names import target_names
from accel.cli.results import built_facts, built_text, reports_text, speeds_text

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.cache import Cache
    from accel.deployment import Deployment
    from accel.jobs import Built
    from accel.model import Model
    from accel.report import Report

Stage: TypeAlias = Literal["parse", "calibrate", "build", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)

app = family()


@app.callback()
def recipe() -> None:
    """Do what an accel.toml says.

    \b
    Example:
      accel recipe run examples/demo/accel.toml
    """


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="An accel.toml.")],
    only: Annotated[
        Stage | None, typer.Option("--only", help="This stage alone, on what the earlier ones left.")
    ] = None,
    first: Annotated[Stage | None, typer.Option("--from", help="Do this stage and the later ones anew.")] = None,
    target: Annotated[
        flags.Words,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            autocompletion=target_names,
            help="Only these targets of the recipe.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="Folder for the artifacts; default: the recipe's.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write one self-contained page; default: the recipe's `report`."),
    ] = None,
    no_cache: flags.NoCache = False,
) -> None:
    """Parse, calibrate, build and evaluate as the recipe says.

    A stage whose inputs have not changed is not run again. The exit code is 5 when a metric is below its bar.

    \b
    Examples:
      accel recipe run accel.toml
      accel recipe run accel.toml --only evaluate
    """
    from dataclasses import replace

    from accel import deployment as work
    from accel.cache import NoCache
    from accel.errors import AccelError
    from accel.recipe import load

    plan = load(recipe)
    plan = replace(plan, output=out or plan.output, report=html or plan.report)
    if target:
        unknown = [t for t in target if t not in {r.target for r in plan.requests}]
        if unknown:
            raise AccelError(f"the recipe has no target {unknown[0]!r}", code="usage.target")
        plan = replace(plan, requests=tuple(r for r in plan.requests if r.target in target))
    if not plan.requests:
        raise AccelError("the recipe names no target", code="usage.recipe", hints=["Add [[targets]] with a name."])
    if only in (None, "build"):
        work.preflight(plan)
    cache = flags.cache_of(no_cache)

    def store(stage: Stage) -> Cache:
        """No look into the cache from the stage on that must be done anew."""
        anew = first is not None and STAGES.index(stage) >= STAGES.index(first)
        return NoCache() if anew else cache

    model = work.parse(plan, store("parse"))
    if only == "parse":
        emit({"name": model.name, "digest": model.digest}, lambda: f"{model.name} ({model.digest[:12]})")
        return
    if only == "calibrate":
        work.measure(plan, model, store("calibrate"))
        emit({"name": model.name}, lambda: f"{model.name}: calibrated")
        return
    if only != "build":
        work.dataset(plan, plan.evaluation_data, model)  # what is missing is said before the long work
    built: list[Built] = []
    if only == "evaluate":
        artifacts = _existing(plan, model)
    else:
        built = work.build(plan, model, store("build"), calibrate_cache=store("calibrate"))
        artifacts = [b.artifact for b in built]
    variants = [job.variant for job in work.jobs(plan, None)]
    reports: list[Report] = []
    if only != "build" and plan.evaluation_data.source:
        reports = _evaluations(plan, model, artifacts, variants, store("evaluate"))
        reports = [replace(r, commands=r.commands or (state.line,)) for r in reports]
    speeds: list[Report] = []
    if only is None:
        from accel.reporting import performance, write_html

        speeds = list(performance(artifacts, variants))
        if plan.report is not None:
            write_html(plan, model, artifacts, [*reports, *speeds], plan.report, (state.line,), cache, variants)

    def text() -> str:
        parts = [built_text(built)] if built else []
        parts += [reports_text(reports)] if reports else []
        parts += [speeds_text(speeds)] if speeds else []
        parts += [f"report: {shown(plan.report)}"] if plan.report is not None and only is None else []
        return "\n\n".join(parts)

    result: dict[str, Any] = {
        "artifacts": [built_facts(b) for b in built],
        "reports": reports,
        "performance": speeds,
        "html": plan.report if only is None else None,
    }
    emit(result, text, work.require(reports, plan.bars))


def _evaluations(
    plan: Deployment, model: Model, artifacts: list[Artifact], variants: list[str], cache: Cache
) -> list[Report]:
    """A report an artifact, or one for each batch that the recipe asks for."""
    from dataclasses import replace

    from accel import deployment as work

    against = model if plan.evaluate.reference else None
    reports = []
    for artifact, variant in zip(artifacts, variants, strict=True):
        for batch in artifact.manifest.batches if plan.every_batch else (None,):
            at = replace(plan, run=replace(plan.run, batch=batch))
            report = work.evaluate_cached(at, artifact, against, cache)
            subject = {**report.subject, "variant": variant} if variant else report.subject
            reports.append(replace(report, subject=subject))
    return reports


def _existing(plan: Deployment, model: Model) -> list[Artifact]:
    from accel import deployment as work
    from accel import driver
    from accel.jobs import name_output

    return [driver.open_artifact(name_output(job, model).output) for job in work.jobs(plan, None)]

"""``accel compile``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.grouped import Sections, grouped
from accel.cli.results import show_built

if TYPE_CHECKING:
    from accel.deployment import Deployment, Request


app = family()


@app.command(cls=Sections)
@grouped
def compile(
    *,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="The network; default: the recipe's.")] = None,
    target: flags.Targets = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", "-r", metavar="FILE", help="accel.toml to start from; flags override it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="Folder for the artifacts; default: build.")
    ] = None,
    build: flags.BuildFlags,
    data: flags.DataFlags,
    preprocessing: flags.PreprocessingFlags,
    parse: flags.ParseFlags,
    no_cache: flags.NoCache = False,
    show_args: Annotated[
        bool,
        typer.Option("--show-args", help="Print the resolved options and the vendor's command lines, run nothing."),
    ] = False,
    check_model: Annotated[
        bool,
        typer.Option("--check-model", help="Check every node before the build, compare with float after it."),
    ] = False,
) -> None:
    """Parse, calibrate and build for one or several targets.

    The network is calibrated once. Each artifact is a folder OUT/MODEL-TARGET-PRECISION.
    --precision takes several: int8,fp16.

    \b
    Examples:
      accel compile net.onnx -t bm1684 --data photos/
      accel compile net.onnx -t bm1684 -t j5 -d photos/ --mean 127 --std 128
      accel compile -r accel.toml --method kl
    """
    from accel import deployment as work
    from accel.errors import AccelError

    base = start(recipe)
    if not (model or base.source):
        raise AccelError("no network was named", code="usage.arguments", hints=["accel compile net.onnx ..."])
    plan = replace(
        base,
        source=model or base.source,
        output=out or base.output,
        requests=requests(base, target, build, preprocessing, data.labels),
        parse=parse.options(base.parse),
        preprocessing=preprocessing.over(base.preprocessing),
        calibration_data=work.Data(
            data.data or base.calibration_data.source, {**base.calibration_data.options, **data.options()}
        ),
        calibration_file=build.calibration or base.calibration_file,
        calibrate=data.calibrate_options(base.calibrate),
    )
    cache = flags.cache_of(no_cache)
    if show_args:
        from accel.cli.showing import show_arguments

        show_arguments(plan, cache)
        return
    work.preflight(plan)
    parsed = work.parse(plan, cache)
    if check_model:
        from accel.cli.showing import build_checked

        build_checked(plan, parsed, cache)
        return
    show_built(work.build(plan, parsed, cache))


def start(recipe: Path | None) -> Deployment:
    """What the recipe says, or nothing yet."""
    if recipe is not None:
        from accel.recipe import load

        return load(recipe)
    from accel.deployment import Deployment

    return Deployment(source="", output=Path("build"))


def requests(
    base: Deployment,
    targets: flags.Words,
    build: flags.BuildFlags,
    preprocessing: flags.PreprocessingFlags,
    labels: Path | None,
) -> tuple[Request, ...]:
    """The targets of the command line, or else the recipe's, each with the flags over what the recipe says of it."""
    from accel.deployment import Request
    from accel.errors import AccelError

    wanted = base.requests
    if targets:
        known = {r.target: r for r in base.requests}
        wanted = tuple(known.get(t, Request(t)) for t in dict.fromkeys(targets))
    if not wanted:
        raise AccelError(
            "no target was named", code="usage.target", hints=["Name one: --target bm1684", "accel targets"]
        )
    precisions = tuple(w.strip() for w in build.precision.split(",") if w.strip())
    build = replace(build, precision="")  # a request has several
    return tuple(
        replace(
            r,
            precisions=precisions or r.precisions,
            options=build.options(preprocessing, labels, replace(r.options, preprocessing=base.preprocessing)),
        )
        for r in wanted
    )

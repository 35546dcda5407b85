"""``accel compile``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli import flags
from accel.cli.results import show_built

if TYPE_CHECKING:
    from accel.deployment import Deployment


@click.command()
@click.argument("model", required=False, metavar="[MODEL]")
@flags.targets_flag
@click.option("-r", "--recipe", type=flags.PATH, help="accel.toml to start from; flags override it.")
@click.option("-o", "out", type=flags.PATH, help="Folder for the artifacts; default: build.")
@flags.build_flags
@flags.data_flags
@flags.preprocessing_flags
@flags.parse_flags
@flags.no_cache_flag
def command(
    model: str | None, target: tuple[str, ...], recipe: Path | None, out: Path | None, no_cache: bool, **given: Any
) -> None:
    """Parse, calibrate and build for one or several targets.

    The network is calibrated once. Each artifact is a folder OUT/MODEL-TARGET-PRECISION.
    --precision takes several: int8,fp16.

    \b
    Examples:
      accel compile net.onnx -t bm1684 --data photos/
      accel compile net.onnx -t bm1684 -t j5 -d photos/ --mean 127 --std 128
      accel compile -r accel.toml --precision fp16
    """
    from accel import deployment as work

    plan = deployment_of(model, target, recipe, out, given)
    work.preflight(plan)
    cache = flags.cache_of(no_cache)
    show_built(work.build(plan, work.parse(plan, cache), cache))


def deployment_of(
    model: str | None, targets: tuple[str, ...], recipe: Path | None, out: Path | None, given: dict[str, Any]
) -> Deployment:
    """What the recipe says, with the flags over it."""
    from accel.deployment import Data, Deployment, Request
    from accel.errors import AccelError

    base = Deployment(source="", output=Path("build"))
    if recipe is not None:
        from accel.recipe import load

        base = load(recipe)
    if not (model or base.source):
        raise AccelError("no network was named", code="usage.arguments", hints=["accel compile net.onnx ..."])
    requests = base.requests
    if targets:
        known = {r.target: r for r in base.requests}
        requests = tuple(known.get(t, Request(t)) for t in dict.fromkeys(targets))
    if not requests:
        raise AccelError(
            "no target was named", code="usage.target", hints=["Name one: --target bm1684", "accel targets"]
        )
    wanted = tuple(w.strip() for w in given["precision"].split(",") if w.strip())
    plain = {**given, "precision": ""}
    requests = tuple(
        replace(
            r,
            precisions=wanted or r.precisions,
            options=flags.build_options(plain, replace(r.options, preprocessing=base.preprocessing)),
        )
        for r in requests
    )
    options = {**base.calibration_data.options, **flags.data_options(given)}
    return replace(
        base,
        source=model or base.source,
        output=out or base.output,
        requests=requests,
        parse=flags.parse_options(given, base.parse),
        preprocessing=flags.preprocessing(base.preprocessing, given),
        calibration_data=Data(given["data"] or base.calibration_data.source, options),
        calibration_file=given["calibration"] or base.calibration_file,
        calibrate=flags.calibrate_options(given, base.calibrate),
    )

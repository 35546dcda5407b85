"""``accel demo``: runs examples/demo of the checkout that this package belongs to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown, size, table

app = family()


@app.command()
def demo(
    out: Annotated[
        Path | None,
        typer.Option("-o", metavar="DIR", help="Folder for the artifacts; default: beside the example."),
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="B", help="auto, vendor or reference.")] = "reference",
) -> None:
    """Compile a real network for three chips and compare.

    Takes real weights and photos out of installed packages (`make setup` of the repository installs them).

    \b
    Examples:
      accel demo
      accel demo --backend auto
    """
    example = _load()
    rows = example.run(out, flags.choice(backend, "--backend", ("auto", "vendor", "reference")))

    def text() -> str:
        cells = [
            (
                r.target,
                r.precision,
                r.backend,
                f"{r.top1:.2f}",
                f"{r.top5:.2f}",
                r.cosine,
                size(r.bytes),
                f"{r.seconds:.1f}",
            )
            for r in rows
        ]
        where = out or example.HERE / "work" / "build"
        return "\n".join(
            [
                table(("target", "precision", "by", "top-1", "top-5", "cosine", "size", "seconds"), cells),
                "20 photos that were not in the calibration; cosine of the logits against float.",
                "Chips are simulated on this host. Size: of the file to ship; the reference's is no chip's format.",
                "Seconds: the build of a chip's artifact; the evaluation of the float model.",
                f"artifacts: {shown(where)}",
            ]
        )

    emit({"rows": rows}, text)


def _load() -> ModuleType:
    from accel.errors import AccelError

    file = Path(__file__).parents[3] / "examples" / "demo" / "demo.py"
    if not file.is_file():
        raise AccelError(
            "the demo is not part of the installed package",
            code="usage.demo",
            hints=["It is in the repository: clone it and run `make demo`."],
        )
    spec = importlib.util.spec_from_file_location("accel_demo", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accel_demo"] = module  # its data classes look their module up
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise AccelError(
            "the demo's packages are not installed", code="usage.demo", cause=str(error), hints=["make setup"]
        ) from error
    return module

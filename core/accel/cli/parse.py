"""``accel parse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, shown
from accel.cli.grouped import Sections, grouped

app = family()


@app.command(cls=Sections)
@grouped
def parse(
    model: flags.Model,
    parse: flags.ParseFlags,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="ONNX file to write; default: only look.")
    ] = None,
    no_cache: flags.NoCache = False,
) -> None:
    """Read a network into checked, simplified ONNX.

    \b
    Examples:
      accel parse net.onnx -o parsed.onnx
      accel parse net.onnx --shape x=1,3,224,224 --output logits -o cut.onnx
    """
    from accel import driver
    from accel.parsing import save_model

    parsed = driver.parse(model, parse.options(), cache=flags.cache_of(no_cache))
    if out is not None:
        save_model(parsed, out)
    result = {
        "name": parsed.name,
        "digest": parsed.digest,
        "inputs": parsed.inputs,
        "outputs": parsed.outputs,
        "notes": parsed.notes,
        "output": out,
    }

    def text() -> str:
        lines = [f"{parsed.name} ({parsed.digest[:12]})"]
        lines += [f"  in   {spec}" for spec in parsed.inputs]
        lines += [f"  out  {spec}" for spec in parsed.outputs]
        lines += [f"  note: {note}" for note in parsed.notes]
        return "\n".join([*lines, *([f"written: {shown(out)}"] if out else [])])

    emit(result, text)

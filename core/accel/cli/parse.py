"""``accel parse``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli import flags
from accel.cli.console import emit, shown


@click.command()
@flags.model_argument
@click.option("-o", "out", type=flags.PATH, help="ONNX file to write; default: only look.")
@flags.parse_flags
@flags.no_cache_flag
def command(model: str, out: Path | None, no_cache: bool, **given: Any) -> None:
    """Read a network into checked, simplified ONNX.

    \b
    Examples:
      accel parse net.onnx -o parsed.onnx
      accel parse net.onnx --shape x=1,3,224,224 --output logits -o cut.onnx
    """
    from accel import driver
    from accel.parsing import save_model

    parsed = driver.parse(model, flags.parse_options(given), cache=flags.cache_of(no_cache))
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

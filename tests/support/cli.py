"""Running the command line: in this process where that is enough, in one of its own where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from accel.cli.app import app
from accel.cli.main import run
from accel.testing.networks import TinyData, tiny_model
from typer.core import TyperGroup
from typer.main import get_command


@dataclass
class Result:
    """What a command left."""

    code: int
    out: str
    err: str
    data: dict[str, Any] = field(default_factory=dict)


class Cli:
    """``cli("targets")``; ``cli.json("targets")`` also decodes the one object on standard output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object) -> Result:
        self.capsys.readouterr()
        code = run([str(w) for w in words])
        done = self.capsys.readouterr()
        return Result(code, done.out, done.err)

    def json(self, *words: object) -> Result:
        result = self(*words, "--json")
        result.data = json.loads(result.out)
        return result


def process(*words: object, path: Path | None = None, **options: Any) -> subprocess.Popen[str]:
    """``accel`` in a process of its own, ``path`` in front of its packages."""
    env = {**os.environ, **({"PYTHONPATH": str(path)} if path else {}), **options.pop("env", {})}
    code = "from accel.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        **options,
    )


def finish(running: subprocess.Popen[str], timeout: float = 120) -> Result:
    """Wait for a process and take what it wrote."""
    out, err = running.communicate(timeout=timeout)
    data = json.loads(out) if out.startswith("{") else {}
    return Result(running.returncode, out, err, data)


def child(*words: object, path: Path | None = None, **options: Any) -> Result:
    """``accel WORDS --json`` in a process of its own, to its end."""
    return finish(process(*words, "--json", path=path, **options))


def write_tiny(folder: Path, *, count: int = 6) -> tuple[Path, Path]:
    """The tiny network as ``net.onnx`` and a folder of samples as .npz files with labels."""
    import numpy as np

    model, data = folder / "net.onnx", folder / "data"
    onnx.save(tiny_model().proto, model)
    data.mkdir()
    for sample in TinyData(count):
        np.savez(data / f"{sample.name}.npz", x=sample.inputs["x"], label=sample.label)
    return model, data


def accepts(words: list[str]) -> None:
    """Assert that the command line takes these words, without doing what they say."""
    line, command = " ".join(words), get_command(app)
    while isinstance(command, TyperGroup) and words:
        command, words = command.get_command(typer.Context(command), words[0]), words[1:]
        assert command is not None, line
    try:
        command.make_context("x", words)
    except typer.Exit:
        pass
    except typer.BadParameter.__bases__ as error:
        raise AssertionError(f"{line}: {error.format_message()}") from error

"""What the tests of frontends share that read a framework's files on that framework's own toolchain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends import plugin
from accel.errors import AccelError
from accel.model import Model
from accel.options import ParseOptions
from accel.toolchain.process import run
from accel.toolchain.spec import Environment
from accel.toolchain.worker import Worker
from photos import evaluation_photos
from PIL import Image

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def python(env: Environment, folder: Path, code: str, *arguments: object) -> None:
    """Run ``code`` on the toolchain's Python in ``folder``."""
    script = folder / "script.py"  # a file: torch.jit.script reads the source of what it compiles
    script.write_text(code, encoding="utf-8")
    argv = [env.python, script, *map(str, arguments)]
    done = run(env, argv, cwd=folder, log=folder / "log", timeout=900, variables=QUIET)
    assert done.rc == 0, done.tail(20)


@contextmanager
def worker(env: Environment, script: str, folder: Path, *arguments: object) -> Iterator[Worker]:
    """A process of the toolchain's Python that serves the functions of ``tests/support/SCRIPT``."""
    path = Path(__file__).with_name(script)
    words = [str(a) for a in arguments]
    with Worker(env, path, cwd=folder, log=folder / "worker.log", variables=QUIET, arguments=words) as up:
        yield up


def parse(path: Path, **options: object) -> Model:
    """The frontends' answer to ``path`` with these :class:`ParseOptions`."""
    model = plugin.accel_parse(path, ParseOptions(**options))  # type: ignore[arg-type]
    assert model is not None
    return model


def failure(path: Path, **options: object) -> AccelError:
    """The error that :func:`parse` ends with."""
    with pytest.raises(AccelError) as caught:
        parse(path, **options)
    return caught.value


def pixels(count: int, size: int = 224) -> np.ndarray:
    """The first evaluation photos, stretched to squares: N x size x size x 3, float32, 0..255."""
    paths = [path for path, _ in evaluation_photos()[:count]]
    return np.stack([np.asarray(Image.open(p).convert("RGB").resize((size, size)), np.float32) for p in paths])


def assert_parity(want: np.ndarray, got: np.ndarray, bar: float = 1e-4) -> float:
    """Two photos must get two answers, each within ``bar`` of the framework's; returns the largest difference."""
    assert want.shape == got.shape
    assert np.abs(want[0] - want[1]).max() > 1e-3 * np.abs(want).max()
    worst = float(np.abs(want - got).max())
    assert worst <= bar, f"{worst:.1e} of {np.abs(want).max():.2f}"
    return worst

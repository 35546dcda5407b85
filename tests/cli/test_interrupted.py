"""Ctrl-C, kill -9 and a full disk in every stage: nothing half-written, and the next run goes on."""

import resource
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.cli import child, finish, process

STAGES = ("parse", "calibrate", "build", "run", "evaluate")
# A stage that takes its time: the plugin says where it is, then waits to be stopped.
SLOW = """
import pathlib, time
from accel import hookimpl

def wait(stage, where=None):
    if pathlib.Path({flag!r}).read_text() != stage:
        return
    if where is not None:
        (where / "half-written").write_bytes(b"x" * 1000)
    pathlib.Path({ready!r}).touch()
    time.sleep(60)

@hookimpl(tryfirst=True)
def accel_parse(source):
    wait("parse")

@hookimpl(tryfirst=True)
def accel_calibrate(model):
    wait("calibrate")

@hookimpl(tryfirst=True)
def accel_build(workspace):
    wait("build", workspace)

@hookimpl(tryfirst=True)
def accel_run(artifact):
    wait("run")

@hookimpl(tryfirst=True)
def accel_evaluate(runner):
    wait("evaluate")
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a plugin that makes one stage slow."""
    place = tmp_path / "slow"
    (place / "accel_slow-1.dist-info").mkdir(parents=True)
    (place / "accel_slow-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: accel-slow\nVersion: 1\n")
    (place / "accel_slow-1.dist-info" / "entry_points.txt").write_text("[accel.extensions]\nslow = accel_slow\n")
    (place / "accel_slow.py").write_text(SLOW.format(flag=str(place / "flag"), ready=str(place / "ready")))
    (place / "flag").write_text("none")
    return place


@pytest.fixture
def recipe(tiny, tmp_path: Path) -> Path:
    (tmp_path / "accel.toml").write_text(
        '[model]\nsource = "net.onnx"\nsimplify = false\n[data]\ncalibration = "data"\nevaluation = "data"\n'
        '[task]\nname = "classification"\n[build]\nbackend = "reference"\n'
        '[[targets]]\nname = "mlu370"\nprecision = "qint8_mixed_float16"\n'
        "[evaluate]\nagainst_float = false\n"
    )
    return tmp_path / "accel.toml"


def leftovers(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.name.startswith(".") or p.name == "half-written"]


def reach(stage: str, slow: Path, recipe: Path):
    (slow / "flag").write_text(stage)
    (slow / "ready").unlink(missing_ok=True)
    # Whoever runs the tests in the background may have had Ctrl-C ignored; a terminal has not.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = process("recipe", "run", recipe, path=slow, preexec_fn=heard)
    for _ in range(600):
        if (slow / "ready").exists():
            return running
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{stage} was never reached")


def goes_on(slow: Path, recipe: Path) -> None:
    (slow / "flag").write_text("none")
    done = child("recipe", "run", recipe, path=slow)
    assert done.code == 0, done.out + done.err
    assert [a["target"] for a in done.data["artifacts"]] == ["mlu370-s4"]
    assert leftovers(recipe.parent) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c(stage: str, slow: Path, recipe: Path) -> None:
    running = reach(stage, slow, recipe)
    running.send_signal(signal.SIGINT)
    done = finish(running)
    assert done.code == 130 and "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("error: interrupted")
    assert leftovers(recipe.parent) == []
    goes_on(slow, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_kill_9(stage: str, slow: Path, recipe: Path) -> None:
    running = reach(stage, slow, recipe)
    running.kill()
    finish(running)
    build = recipe.parent / "build"
    whole = [p for p in build.iterdir() if not p.name.startswith(".")] if build.exists() else []
    assert all((p / "manifest.json").is_file() for p in whole)
    goes_on(slow, recipe)


def test_sigterm_cleans_up_too(slow: Path, recipe: Path) -> None:
    running = reach("build", slow, recipe)
    running.terminate()
    assert finish(running).code == 143
    assert leftovers(recipe.parent) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["parse", "calibrate", "build", "run"])
def test_disk_full(stage: str, tiny, tmp_path: Path) -> None:
    """Files may not grow beyond a few hundred bytes, as on a full disk."""
    net, data = tiny
    base = (
        "compile",
        net,
        "-t",
        "mlu370",
        "-p",
        "qint8_mixed_float16",
        "--backend",
        "reference",
        "--no-simplify",
        "-d",
        data,
    )
    made = child(*base, "-o", tmp_path / "whole")
    assert made.code == 0, made.out
    out = tmp_path / "out"
    words = {
        "parse": ("parse", net, "--no-simplify", "-o", out / "parsed.onnx"),
        "calibrate": ("calibrate", net, "--no-simplify", "-d", data, "-o", out / "net.calibration"),
        "build": (*base, "-o", out),
        "run": ("run", made.data["artifacts"][0]["path"], data / "sample0.npz", "-o", out / "y.npz"),
    }[stage]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    env = {"ACCEL_CACHE_DIR": str(tmp_path / "full")}
    done = child(*words, preexec_fn=limit, env=env)
    assert done.code == 1, done.out + done.err
    assert done.data["error"]["code"] == "failed.disk-full"
    assert [p for p in out.rglob("*") if p.is_file()] == [] if out.exists() else True
    assert leftovers(tmp_path / "out") == []
    again = child(*words, env=env)
    assert again.code == 0, again.out


def test_two_at_once(tiny, tmp_path: Path) -> None:
    """The same build into the same folder, side by side: both end well and the artifact is whole."""
    from accel.artifacts import read_artifact

    words = (
        "compile",
        tiny[0],
        "-t",
        "mlu370",
        "-p",
        "force_float32",
        "--backend",
        "reference",
        "-o",
        tmp_path / "out",
    )
    done = [finish(p) for p in [process(*words, "--json") for _ in range(3)]]
    assert [d.code for d in done] == [0, 0, 0], [d.out for d in done]
    assert sum(not d.data["artifacts"][0]["cached"] for d in done) == 1
    read_artifact(tmp_path / "out" / "net-mlu370-s4-force_float32")
    assert leftovers(tmp_path / "out") == []


def test_reader_that_goes_away(tmp_path: Path) -> None:
    running = process("targets")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait(60) == 141


def test_progress_goes_to_standard_error_only(tiny, tmp_path: Path) -> None:
    done = child("run", tmp_path / "absent", "x")
    assert done.err == "" and done.data["ok"] is False
    np.save(tmp_path / "x.npy", np.zeros(1))

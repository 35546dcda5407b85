"""Frontends whose framework runs elsewhere: what the driver does with the framework's answers, good and bad.

No framework is needed: a stand-in plays the export script.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from accel import driver
from accel.builtin.frontends import isolated, plugin
from accel.builtin.frontends.toolchains import TENSORFLOW, TORCH
from accel.cache import Cache
from accel.errors import AccelError, ExitCode
from accel.model import Model
from accel.options import ParseOptions
from accel.toolchain import find, process
from accel.toolchain.spec import Environment
from onnx import TensorProto, helper, numpy_helper

Script = Callable[[dict[str, object], Path], int]


def graph(batch: int | str = "batch", factor: float = 2.0) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"], "mul")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(factor), "k")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(folder: Path, batch: int, factor: float = 2.0) -> None:
    x = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
    np.savez(folder / f"samples{batch}.npz", **{"in:x": x, "out:0": x * np.float32(factor)})


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Script], None]:
    """Let a function stand in for the export script."""

    def install(script: Script) -> None:
        env = Environment("torch", "0", tmp_path, tmp_path / "python")

        def run(_env: object, argv: list[Path], *, cwd: Path, log: Path, **_: object) -> process.Completed:
            log.write_text("what the framework printed\n", encoding="utf-8")
            rc = script(json.loads(Path(argv[2]).read_text(encoding="utf-8")), cwd)
            return process.Completed(rc, log, 0.0, 0.0, 0)

        monkeypatch.setattr(find, "require", lambda _, **__: env)
        monkeypatch.setattr(find, "toolchains_dir", lambda: tmp_path)
        monkeypatch.setattr(process, "run", run)

    return install


def parse(tmp_path: Path) -> Model:
    return isolated.export(TORCH, "x.py", {"shapes": {}}, ParseOptions(), name="net", sources=(tmp_path,))


def leave(folder: Path, proto: onnx.ModelProto, **result: object) -> int:
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    (folder / "reply.json").write_text(json.dumps({"result": result}), encoding="utf-8")
    return 0


def test_equal_answers_pass(plays: Callable[[Script], None], tmp_path: Path) -> None:
    def script(_: object, folder: Path) -> int:
        answers(folder, 1)
        answers(folder, 2)
        return leave(folder, graph(), traced=True)

    plays(script)
    model = parse(tmp_path)
    assert model.inputs[0].shape == ("batch", 3)
    assert model.notes == ("exported by torch 0",)


def test_other_answers_are_refused(plays: Callable[[Script], None], tmp_path: Path) -> None:
    def script(_: object, folder: Path) -> int:
        answers(folder, 1, factor=2.01)
        return leave(folder, graph())

    plays(script)
    with pytest.raises(AccelError) as caught:
        parse(tmp_path)
    assert caught.value.code == "model.parity"


@pytest.mark.parametrize(("op", "flipped", "fine"), [("Floor", 2, True), ("Floor", 5, False), ("Neg", 1, False)])
def test_a_network_that_decides_may_decide_a_few_near_ties_differently(
    plays: Callable[[Script], None], tmp_path: Path, op: str, flipped: int, fine: bool
) -> None:
    def script(_: object, folder: Path) -> int:
        x = np.arange(4000, dtype=np.float32).reshape(1, 4000)
        y = x.copy() if op == "Floor" else -x
        y[0, 1000 : 1000 + flipped] -= 1
        y[0, 1000 + flipped :] += 0.01  # all else is near
        np.savez(folder / "samples1.npz", **{"in:x": x, "out:0": y})
        made = helper.make_graph(
            [helper.make_node(op, ["x"], ["y"], "one")],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4000])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4000])],
        )
        return leave(folder, helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))

    plays(script)
    if fine:
        parse(tmp_path)
        return
    with pytest.raises(AccelError) as caught:
        parse(tmp_path)
    assert caught.value.code == "model.parity"


@pytest.mark.parametrize("two", ["differs", "absent", "does not grow"])
def test_a_batch_that_does_not_work_is_fixed(plays: Callable[[Script], None], tmp_path: Path, two: str) -> None:
    def script(_: object, folder: Path) -> int:
        answers(folder, 1)
        if two == "differs":
            answers(folder, 2, factor=3)
        elif two == "does not grow":
            x = np.ones((2, 3), np.float32)
            np.savez(folder / "samples2.npz", **{"in:x": x, "out:0": x[:1]})
        return leave(folder, graph(), traced=True)

    plays(script)
    model = parse(tmp_path)
    assert model.inputs[0].shape == (1, 3)
    assert "fixed at 1" in model.notes[1]


def test_no_samples_is_a_note(plays: Callable[[Script], None], tmp_path: Path) -> None:
    plays(lambda _, folder: leave(folder, graph(batch=1)))
    assert "not compared" in parse(tmp_path).notes[1]


def test_what_the_script_refuses_is_the_error(plays: Callable[[Script], None], tmp_path: Path) -> None:
    def script(_: object, folder: Path) -> int:
        error = {"code": "usage.factory", "summary": "no", "cause": "why", "hints": ["do"], "node": ""}
        (folder / "reply.json").write_text(json.dumps({"error": error}), encoding="utf-8")
        return 1

    plays(script)
    with pytest.raises(AccelError) as caught:
        parse(tmp_path)
    error = caught.value
    assert (error.code, error.summary, error.cause, error.hints) == ("usage.factory", "no", "why", ("do",))
    assert error.exit_code == ExitCode.USAGE


def test_a_script_that_dies_shows_its_last_words(plays: Callable[[Script], None], tmp_path: Path) -> None:
    plays(lambda _, __: -11)
    with pytest.raises(AccelError) as caught:
        parse(tmp_path)
    assert caught.value.code == "model.export"
    assert "what the framework printed" in caught.value.cause
    assert caught.value.log is not None and caught.value.log.is_file()


@pytest.mark.parametrize(
    "name", ["net.pt", "net.pt2", "net.pth", "net.keras", "net.h5", "net.pb", "net.tflite", "saved"]
)
def test_a_missing_framework_is_named_with_its_install_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / name
    if name == "saved":
        path.mkdir()
        path = path / "saved_model.pb"
    path.write_bytes(b"x")
    with pytest.raises(AccelError) as caught:
        plugin.accel_parse(tmp_path / name, ParseOptions())
    assert caught.value.exit_code == ExitCode.TOOLCHAIN
    wanted = "torch" if ".pt" in name else "tensorflow"
    first, last = caught.value.hints
    assert f"accel toolchain install {wanted}" in first
    assert ".onnx" in last


def test_a_folder_that_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(AccelError) as caught:
        plugin.accel_parse(tmp_path, ParseOptions(frontend="tensorflow"))
    assert caught.value.code == "model.saved_model"
    assert plugin.accel_parse(tmp_path, ParseOptions()) is None


def test_every_framework_package_is_pinned() -> None:
    for toolchain in (TORCH, TENSORFLOW):
        assert all(r.count("==") == 1 for r in toolchain.requirements)
        assert any(r.endswith(f"=={toolchain.version}") for r in toolchain.requirements)


def test_a_factory_is_among_the_sources(plays: Callable[[Script], None], tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    def script(request: dict[str, object], folder: Path) -> int:
        asked.append(request)
        answers(folder, 1)
        return leave(folder, graph(batch=1))

    plays(script)
    weights, code = tmp_path / "w.pth", tmp_path / "nets.py"
    weights.write_bytes(b"w")
    code.write_text("def make(): ...\n", encoding="utf-8")
    shape = {"": (1, 3)}
    for extra in ("nets:make", f"{code}:make"):
        model = plugin.accel_parse(weights, ParseOptions(extra={"factory": extra}, input_shapes=shape))
        assert model is not None and model.sources == (weights, code)
    model = plugin.accel_parse(code, ParseOptions(weights=weights, extra={"factory": "make"}, input_shapes=shape))
    assert model is not None and model.sources == (code, weights)
    assert [r["factory"] for r in asked] == ["nets:make", f"{code}:make", f"{code}:make"]
    assert {r["weights"] for r in asked} == {str(weights)}
    with pytest.raises(AccelError) as caught:
        plugin.accel_parse(weights, ParseOptions(extra={"factory": "make"}))
    assert caught.value.code == "usage.factory"


def test_a_folder_is_remembered_by_its_content(plays: Callable[[Script], None], tmp_path: Path) -> None:
    runs = []

    def script(_: dict[str, object], folder: Path) -> int:
        runs.append(folder)
        answers(folder, 1)
        return leave(folder, graph())

    plays(script)
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"graph")
    (saved / "variables" / "part").write_bytes(b"weights")
    cache = Cache(tmp_path / "cache")
    first, second = driver.parse(saved, cache=cache), driver.parse(saved, cache=cache)
    assert len(runs) == 1 and first.digest == second.digest
    (saved / "variables" / "part").write_bytes(b"others")
    driver.parse(saved, cache=cache)
    assert len(runs) == 2

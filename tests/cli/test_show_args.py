"""``accel compile --show-args`` and ``--check-model``."""

from __future__ import annotations

from pathlib import Path

import pytest

REFERENCE = ("--backend", "reference")


@pytest.fixture
def without_toolchains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))


def test_arguments_are_shown_and_nothing_is_run(cli, tiny, tmp_path, without_toolchains) -> None:
    net, _ = tiny
    out = tmp_path / "out"
    words = ("compile", net, "-t", "bm1684", "-t", "j5", "--opt", "2", "--batch", "1,4", "--show-args", "-o", out)
    shown = cli(*words)
    assert shown.code == 0 and not out.exists()
    for line in ("bm1684 int8", "j5 int8", "opt: 2", "batches: 1, 4", "the embedded reference builds it"):
        assert line in shown.out
    found = cli.json(*words)
    assert found.code == 0 and not out.exists()
    first = found.data["builds"][0]
    assert first["target"] == "bm1684" and first["commands"] == [] and first["options"]["opt"] == "2"
    assert Path(first["output"]).parent == out


def test_scripts_for_a_vendors_sdk_are_commands_too(cli, tiny, without_toolchains) -> None:
    net, _ = tiny
    found = cli.json("compile", net, "-t", "mlu370-s4", "--backend", "vendor", "--show-args")
    assert found.data["builds"][0]["commands"] == ["python build_magicmind.py"]


def test_a_wrong_option_is_told_before(cli, tiny) -> None:
    net, _ = tiny
    assert cli("compile", net, "-t", "bm1684", "-p", "fp16", *REFERENCE, "--show-args").code == 3


@pytest.mark.parametrize("data", [True, False])
def test_a_checked_build_gives_a_verdict(cli, tiny, tmp_path, data: bool) -> None:
    net, folder = tiny
    given = ("-d", folder) if data else ("-p", "fp32")
    words = ("compile", net, "-t", "bm1684", *given, *REFERENCE, "--check-model", "-o", tmp_path / "out")
    done = cli(*words)
    assert done.code == 0 and "passed" in done.out and "cosine" in done.out
    found = cli.json(*words)
    (row,) = found.data["check"]
    assert row["verdict"] == "passed" and row["cosine"] > 0.9 and sum(row["nodes"].values()) > 0
    assert len(found.data["artifacts"]) == 1


def test_a_network_that_comes_out_wrong_fails(cli, tiny, tmp_path, monkeypatch) -> None:
    net, folder = tiny
    from accel.cli import showing

    monkeypatch.setattr(showing, "LEAST_COSINE", 1.1)
    found = cli.json("compile", net, "-t", "bm1684", "-d", folder, *REFERENCE, "--check-model", "-o", tmp_path / "out")
    assert found.code == 5 and found.data["error"]["code"] == "accuracy.below"
    assert found.data["check"][0]["verdict"] == "FAILED"

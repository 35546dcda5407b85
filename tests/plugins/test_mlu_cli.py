"""MagicMind from the command line, on the stand-in SDK: build, run, evaluate, perf, doctor, the script."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugins.fakes.sdk import FakeSdk


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSdk:
    return FakeSdk(tmp_path, monkeypatch)


def test_from_network_to_measured_speed(cli, tiny, sdk, tmp_path) -> None:
    net, data = tiny
    out = tmp_path / "net"
    words = ("build", net, "-t", "mlu370-x4", "-p", "int8", "--backend", "vendor", "-d", data, "-o", out, "--no-cache")
    made = cli(*words)
    assert made.code == 0, made.err
    report = cli.json("evaluate", out, "-d", data, "--against", net, "--min-cosine", "0.97")
    assert report.code == 0, report.err
    figures = {m["name"]: m for m in report.data["reports"][0]["metrics"]}
    assert figures["cosine"]["provenance"] == "measured"
    speed = cli.json("perf", out, "--batch", "4")
    assert speed.code == 0, speed.err
    figures = {m["name"]: m for m in speed.data["reports"][0]["metrics"]}
    assert figures["throughput b4"]["value"] == pytest.approx(2002.0)
    (found,) = [t for t in cli.json("doctor").data["toolchains"] if t["name"] == "magicmind"]
    assert found["state"] == "ready" and str(sdk.home) in found["detail"]


def test_the_script_without_any_sdk(cli, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NEUWARE_HOME", str(tmp_path / "nowhere"))
    net, data = tiny
    out = tmp_path / "net"
    words = ("build", net, "-t", "mlu370", "-p", "int8", "-d", data, "--emit-script", "-o", out, "--no-cache")
    made = cli(*words)
    assert made.code == 0, made.err
    assert (out / "build_magicmind.py").is_file() and (out / "builder_config.json").is_file()
    vendor = cli("build", net, "-t", "mlu370", "-p", "int8", "-d", data, "--backend", "vendor", "-o", tmp_path / "v")
    assert vendor.code == 4 and "NEUWARE_HOME" in vendor.err

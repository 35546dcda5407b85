"""Somebody else's plugins, pip-installed and found at run time: a good one, a broken one, an impostor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import child


def conformance(folder: Path, plugins: Path, package: str) -> subprocess.CompletedProcess[str]:
    """The kit's tests of ``package``, as its author runs them."""
    test = folder / "test_package.py"
    test.write_text(
        "from accel.testing.conformance import PluginConformance\n"
        f"class TestPackage(PluginConformance):\n    package = {package!r}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", str(test)]
    env = {"PYTHONPATH": str(plugins), "ACCEL_CACHE_DIR": str(folder / "cache"), "PATH": ""}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False)


def test_listed_from_metadata_with_its_alias(third_party) -> None:
    done = child("targets", path=third_party)
    assert {"name": "toy1", "aliases": ["toy-one"], "package": "accel-toy", "version": "1.2.3"} in done.data["targets"]
    assert done.data["problems"] == []


def test_a_target_alone_gets_every_stage(third_party, tiny, tmp_path) -> None:
    """Only numerics: check, calibrate, build, run and evaluate come from the core."""
    net, data = tiny
    assert child("check", net, "-t", "toy1", path=third_party).data["supported"] is True
    built = child(
        "compile", net, "-t", "toy-one", "-d", data, "-p", "int8,half", "-o", tmp_path / "out", path=third_party
    )
    assert built.code == 0, built.out
    paths = [a["path"] for a in built.data["artifacts"]]
    assert [Path(p).name for p in paths] == ["net-toy1-int8", "net-toy1-fp16"]
    ran = child("run", paths[0], data / "sample0.npz", path=third_party)
    assert ran.data["samples"][0]["outputs"][0]["shape"] == [1, 10] and ran.data["provenance"] == "simulated"
    report = child("evaluate", *paths, "-d", data, "--against", net, "--min-cosine", "0.98", path=third_party)
    assert report.code == 0 and len(report.data["reports"]) == 2


def test_conformance_kit_passes_on_it(third_party, tmp_path) -> None:
    done = conformance(tmp_path, third_party, "accel-toy")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "skipped" not in done.stdout


def test_conformance_kit_fails_on_a_broken_one(bad_company, tmp_path) -> None:
    done = conformance(tmp_path, bad_company, "accel-duplicate")
    assert done.returncode == 1 and "test_is_installed_with_targets" in done.stdout


def test_conflict_names_both_packages_and_costs_nobody_else(bad_company) -> None:
    done = child("targets", path=bad_company)
    names = {t["name"] for t in done.data["targets"]}
    assert "bm1684" in names and "own" in names and "toy1" not in names
    (problem,) = done.data["problems"]
    assert "accel-toy 1.2.3" in problem["reason"] and "accel-duplicate 1.2.3" in problem["reason"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shattered", "libbroken.so.3"),
        ("quits", "SystemExit"),
        ("hollow", "not a Target"),
        ("cracked", "chip"),
        ("toy1", "accel-duplicate"),
    ],
)
def test_broken_ones_are_reported_by_package_and_version(bad_company, name, reason) -> None:
    done = child("targets", name, path=bad_company)
    assert done.code == 1
    error = done.data["error"]
    assert error["code"] == "failed.plugin" and reason in error["cause"]
    assert "1.2.3" in error["summary"] + error["cause"]


def test_the_others_work_beside_them(bad_company, tiny, tmp_path) -> None:
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
    assert child(*words, path=bad_company).code == 0


def test_doctor_lists_every_problem(bad_company) -> None:
    done = child("doctor", path=bad_company)
    assert done.code == 4
    text = json.dumps(done.data["problems"])
    assert all(word in text for word in ("accel-broken", "accel-duplicate", "libbroken.so.3"))

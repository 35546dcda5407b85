"""Shared by all tests: nothing of the user's own folders is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Cli, write_tiny

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process."""
    return Cli(capsys)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """A small network's file and a folder of samples."""
    return write_tiny(tmp_path)


def install(where: Path, *names: str) -> Path:
    """pip-install plugins of tests/plugins into a folder, as a user would into an environment."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--python", sys.executable, "--target", str(where)]
    subprocess.run([*command, *(str(PLUGINS / n) for n in names)], check=True)
    return where


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy plugin installed."""
    return install(tmp_path_factory.mktemp("toy"), "toy")


@pytest.fixture(scope="session")
def bad_company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy plugin, one that breaks and one that claims the toy's name."""
    return install(tmp_path_factory.mktemp("bad"), "toy", "broken", "duplicate")

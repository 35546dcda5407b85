"""The documentation is true: its commands run, its pages exist, its table is current."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accel.cli.main import take_flags
from PIL import Image
from support.cli import accepts

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])
RUN = ("README.md", "index.md", "build.md", "run.md", "recipes.md", "errors.md")
"""Pages whose shell blocks are run from the top; the flags of the other pages' commands are checked."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "sh"))
    text += "\n" + "\n".join(re.findall(r"^    (accel .*)$", page.read_text(), re.M))
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip().startswith("accel ")]


@pytest.fixture
def desk(tiny, tmp_path, monkeypatch) -> Path:
    """A folder with what the pages talk about."""
    for folder in ("photos", "val/0", "val/1"):
        (tmp_path / folder).mkdir(parents=True)
        for at in range(3):
            Image.new("RGB", (20, 24), (at * 60, 90, 30)).save(tmp_path / folder / f"{at}.png")
    (tmp_path / "labels.txt").write_text("".join(f"kind {c}\n" for c in "abcdefghij"))
    import numpy as np

    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    recipe = blocks(ROOT / "docs" / "recipes.md", "toml")[0]
    (tmp_path / "accel.toml").write_text(recipe.replace("cosine = 0.9", "cosine = 0.0"))
    (tmp_path / "val").rename(tmp_path / "old")
    (tmp_path / "val").mkdir()
    for at, letter in enumerate("ab"):
        (tmp_path / "old" / str(at)).rename(tmp_path / "val" / f"kind {letter}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_commands_of_the_page_run(cli, desk, name) -> None:
    page = next(p for p in PAGES if p.name == name)
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("accel ")]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        wanted = int(line.rpartition("# exit ")[2]) if "# exit " in line else 0
        done = cli(*words)
        assert done.code == wanted, f"{line}\n{done.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_the_page_have_these_flags(page) -> None:
    for line in commands(page):
        words = take_flags(shlex.split(line, comments=True)[1:])
        if "nonsense" in words or not words:
            continue
        accepts(words)


def test_python_of_the_readme_runs(desk) -> None:
    for code in blocks(ROOT / "README.md", "python"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=desk)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_support_table_is_current() -> None:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run: python docs/generate.py"

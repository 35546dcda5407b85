"""Groups of options in a command's signature, and their sections in the help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from accel.cli.app import family
from accel.cli.grouped import Sections, grouped
from typer.main import get_command


@dataclass(frozen=True)
class Ink:
    color: Annotated[str, typer.Option("--color", rich_help_panel="Ink")] = "black"
    dry: Annotated[bool, typer.Option("--dry", rich_help_panel="Ink")] = False
    words: Annotated[list[str] | None, typer.Option("--word", rich_help_panel="Ink")] = None


def run(function, *words: str) -> None:
    app = family()
    app.command(cls=Sections)(grouped(function))
    command = get_command(app)
    with command.make_context("x", list(words)) as context:
        command.invoke(context)


def test_a_group_arrives_put_together() -> None:
    seen = []

    def draw(ink: Ink, out: Annotated[Path, typer.Option("-o")], copies: int = 1) -> None:
        seen.append((ink, out, copies))

    run(draw, "-o", "a.png")
    run(draw, "-o", "b.png", "--color", "red", "--dry", "--word", "a", "--word", "b", "--copies", "2")
    assert seen == [(Ink(), Path("a.png"), 1), (Ink("red", True, ["a", "b"]), Path("b.png"), 2)]


def test_help_has_a_section_of_the_group(capsys) -> None:
    def draw(ink: Ink, copies: int = 1) -> None: ...

    with pytest.raises(typer.Exit):
        run(draw, "--help")
    options, _, ink = capsys.readouterr().out.partition("\nInk:\n")
    assert "--copies" in options and "--color" not in options
    assert "--color" in ink and "--word" in ink


def test_an_option_in_two_groups_is_refused() -> None:
    def draw(ink: Ink, color: str = "") -> None: ...

    with pytest.raises(ValueError, match="color"):
        grouped(draw)

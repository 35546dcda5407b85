"""Help is complete, narrow enough, and the table says what the commands say."""

import importlib

import click
import pytest
from accel.cli.app import COMMANDS, app


def leaves() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = importlib.import_module(f"accel.cli.{name}").command
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.commands]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_table_repeats_the_commands_own_line(name: str) -> None:
    command = importlib.import_module(f"accel.cli.{name}").command
    assert command.help.splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_help_fits_and_shows_an_example(words, cli) -> None:
    done = cli(*words, "--help")
    assert done.code == 0 and done.err == ""
    assert max(map(len, done.out.splitlines())) <= 80
    if len(words) == 1:
        assert f"accel {words[0]}" in done.out.partition("Usage")[2].partition("Example")[2]


def test_no_arguments_show_the_help(cli) -> None:
    assert cli().out == cli("--help").out


def test_completion_offers_commands_and_targets() -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(app, {}, "accel", "_ACCEL_COMPLETE")
    assert "compile" in [c.value for c in complete.get_completions([], "comp")]
    assert "bm1684" in [c.value for c in complete.get_completions(["build", "x", "-t"], "bm")]


def test_completion_scripts(cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_ACCEL_COMPLETE" in cli("completion", shell).out


def test_version(cli) -> None:
    import accel

    assert cli("--version").out == f"accel {accel.__version__}\n"

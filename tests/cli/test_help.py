"""Help is complete, narrow enough, and the table says what the commands say."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accel.cli.app import COMMANDS
from accel.cli.main import take_flags
from support.cli import accepts, finish, process
from typer.core import TyperGroup
from typer.main import get_command

PATHS = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def command_of(name: str):
    return get_command(importlib.import_module(f"accel.cli.{name}").app)


def leaves() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        command = command_of(name)
        found.append((name,))
        if isinstance(command, TyperGroup):
            found += [(name, sub) for sub in command.commands]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_table_repeats_the_commands_own_line(name: str) -> None:
    command = command_of(name)
    assert command.help.splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_help_fits_and_shows_an_example(words, cli) -> None:
    done = cli(*words, "--help")
    assert done.code == 0 and done.err == ""
    assert max(map(len, done.out.splitlines())) <= 80
    if len(words) == 1:
        assert f"accel {words[0]}" in done.out.partition("Usage")[2].partition("Example")[2]


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_examples_of_the_help_are_commands(words, cli) -> None:
    shown = re.findall(r"^    accel (.*)$", cli(*words, "--help").out, re.M)
    for line in shown:
        accepts(take_flags(shlex.split(line.partition(">")[0])))


def test_no_arguments_show_the_help(cli) -> None:
    assert cli().out == cli("--help").out


def completions(*words: str) -> list[str]:
    """What bash is told when the last word is being typed."""
    asked = {"_ACCEL_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = finish(process(env=asked))
    assert done.code == 0 and done.err == ""
    return done.out.split()


def test_completion_offers_commands_and_targets() -> None:
    assert "compile" in completions("accel", "comp")
    assert "bm1684" in completions("accel", "build", "x", "-t", "bm")


def test_completion_scripts(cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_ACCEL_COMPLETE" in cli("completion", shell).out
    assert cli("completion", "zsh").out.startswith("#compdef accel\n")


def test_completion_script_of_bash_completes() -> None:
    asked = 'eval "$(accel completion bash)"; COMP_WORDS=(accel comp); COMP_CWORD=1; _accel_completion accel; '
    done = subprocess.run(["bash", "-c", asked + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, env=PATHS)
    assert done.stdout == "compile completion\n", done.stderr


def test_version(cli) -> None:
    import accel

    assert cli("--version").out == f"accel {accel.__version__}\n"

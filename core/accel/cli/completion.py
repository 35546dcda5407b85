"""``accel completion``: the script a shell loads, and the answers to its questions."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import typer

from accel.cli.app import family
from accel.cli.console import emit
from accel.cli.names import COMPLETE

AUTOLOADED = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _accel_completion "$@"
fi
"""
"""zsh reads the file when it completes for the first time, and wants an answer at once."""

Shell: TypeAlias = Literal["bash", "zsh", "fish"]

app = family()


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script that completes commands in a shell.

    \b
    Examples:
      accel completion bash > ~/.local/share/bash-completion/completions/accel
      accel completion zsh > ~/.zfunc/_accel
      accel completion fish > ~/.config/fish/completions/accel.fish
    """
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as written:
        answer(f"source_{shell}")
    script = written.getvalue().strip()  # zsh looks for #compdef in the first line
    if shell == "zsh":
        script += AUTOLOADED
    emit({"shell": shell, "script": script}, lambda: script)


def answer(question: str) -> int:
    """Print what a shell asks for by :data:`COMPLETE`: ``source_bash`` its script, ``complete_bash`` completions.

    Returns:
        The exit code.
    """
    from typer.completion import get_completion_inspect_parameters, shell_complete
    from typer.main import get_command

    from accel.cli.app import app as accel

    get_completion_inspect_parameters()  # makes the shells known to Typer
    try:
        return shell_complete(get_command(accel), {}, "accel", COMPLETE, question)
    except (Exception, KeyboardInterrupt):  # a broken plugin, say: there is no place for an error below a prompt
        return 1

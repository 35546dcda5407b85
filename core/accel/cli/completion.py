"""``accel completion``: the script a shell loads."""

from __future__ import annotations

import click

from accel.cli.app import app
from accel.cli.console import emit

PLACES = {
    "bash": "accel completion bash > ~/.local/share/bash-completion/completions/accel",
    "zsh": "accel completion zsh > ~/.zfunc/_accel",
    "fish": "accel completion fish > ~/.config/fish/completions/accel.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(PLACES)))
def command(shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    Examples:
      accel completion bash > ~/.local/share/bash-completion/completions/accel
      accel completion zsh > ~/.zfunc/_accel
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(app, {}, "accel", "_ACCEL_COMPLETE").source()
    emit({"shell": shell, "script": script}, lambda: script)

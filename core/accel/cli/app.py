"""The command table: names and one line each; the module of a command is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

COMMANDS: dict[str, tuple[str, str]] = {
    "compile": ("Stages", "Parse, calibrate and build for one or several targets."),
    "parse": ("Stages", "Read a network into checked, simplified ONNX."),
    "calibrate": ("Stages", "Measure a network's activations over sample data."),
    "build": ("Stages", "Compile a network for one target."),
    "run": ("Stages", "Run an artifact on pictures or arrays."),
    "evaluate": ("Stages", "Measure how right artifacts are."),
    "recipe": ("Stages", "Do what an accel.toml says."),
    "targets": ("Look", "List the chips, or show one."),
    "check": ("Look", "Say which nodes a target runs, before a build."),
    "inspect": ("Look", "Describe an artifact, a network or a vendor's file."),
    "perf": ("Look", "Show an artifact's speed and memory."),
    "combine": ("Look", "Put artifacts of several batch sizes into one."),
    "data": ("Housekeeping", "Prepare sample data (pack pictures into an LMDB)."),
    "doctor": ("Housekeeping", "Say what is installed and what is wrong."),
    "toolchain": ("Housekeeping", "Install, list and remove vendors' compilers."),
    "cache": ("Housekeeping", "List, measure and empty the result cache."),
    "completion": ("Housekeeping", "Print the script that completes commands in a shell."),
    "demo": ("Housekeeping", "Compile a real network for three chips and compare."),
}

EPILOG = (
    "--json, --debug and -q may stand anywhere: one JSON object on standard output; "
    "the Python trace of a failure; no progress."
)


def family(**settings: Any) -> typer.Typer:
    """A Typer application as all of ours are: plain text, no Rich, errors left to ``main``.

    A module of the table holds one as ``app``: with one command it is that command, with a callback it is a group.
    """
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, **settings)


class LazyGroup(TyperGroup):
    """A group whose commands live in ``accel.cli.<name>`` as ``app``."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = get_command(import_module(f"accel.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"no such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # From the table: showing help must not import any command.
        width = max(len(name) for name in COMMANDS)
        for heading in dict.fromkeys(group for group, _ in COMMANDS.values()):
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), text) for name, (group, text) in COMMANDS.items() if group == heading]
                )


def _version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from accel import __version__

        print(f"accel {__version__}")
        raise typer.Exit


app = family(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def accel(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Put a trained network on an AI accelerator: parse, calibrate, build, run,
    evaluate.

    The usual start:

    \b
      accel targets
      accel compile net.onnx --target bm1684 --data photos/
    """

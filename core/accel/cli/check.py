"""``accel check``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from accel.cli import flags
from accel.cli.console import emit, table


@click.command()
@flags.model_argument
@flags.target_flag
@flags.build_flags
@click.option("--labels", type=flags.PATH, hidden=True)
@flags.preprocessing_flags
@flags.parse_flags
@flags.flag("--all", "Show every node, not only the ones with a remark.", "every")
def command(model: str, target: str, every: bool, **given: Any) -> None:
    """Say which nodes a target runs, before a build.

    The exit code is 3 when a node is not supported.

    \b
    Examples:
      accel check net.onnx -t bm1684
      accel check net.onnx -t j5 -p int8 --all
    """
    from accel import driver
    from accel.errors import AccelError

    parsed = driver.parse(model, flags.parse_options(given), cache=flags.cache_of(False))
    nodes = driver.check(parsed, target, flags.build_options(given))
    bad = [n for n in nodes if not n.supported]
    failure = None
    if bad:
        failure = AccelError(
            f"{len(bad)} of {len(nodes)} nodes do not run on {target}",
            code="unsupported.op",
            stage="check",
            cause=bad[0].reason,
            node=bad[0].node,
        )

    def text() -> str:
        shown = nodes if every else [n for n in nodes if not n.supported or n.reason]
        rows = [(n.node, n.op_type, "yes" if n.supported else "NO", n.place, n.reason) for n in shown]
        places = Counter(n.place or ("chip" if n.supported else "nowhere") for n in nodes)
        lines = [table(("node", "operator", "runs", "place", "remark"), rows)] if rows else []
        lines.append(f"{len(nodes)} nodes: " + ", ".join(f"{count} {place}" for place, count in places.items()))
        return "\n".join(lines)

    emit({"target": target, "nodes": list(nodes), "supported": not bad}, text, failure)

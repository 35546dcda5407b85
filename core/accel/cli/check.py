"""``accel check``."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from accel.cli import flags
from accel.cli.app import family
from accel.cli.console import emit, table
from accel.cli.grouped import Sections, grouped

app = family()


@app.command(cls=Sections)
@grouped
def check(
    model: flags.Model,
    target: flags.Target,
    build: flags.BuildFlags,
    preprocessing: flags.PreprocessingFlags,
    parse: flags.ParseFlags,
    every: Annotated[bool, typer.Option("--all", help="Show every node, not only the ones with a remark.")] = False,
) -> None:
    """Say which nodes a target runs, before a build.

    The exit code is 3 when a node is not supported.

    \b
    Examples:
      accel check net.onnx -t bm1684
      accel check net.onnx -t j5 -p int8 --all
    """
    from accel import driver
    from accel.errors import AccelError

    parsed = driver.parse(model, parse.options(), cache=flags.cache_of(False))
    nodes = driver.check(parsed, target, build.options(preprocessing))
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

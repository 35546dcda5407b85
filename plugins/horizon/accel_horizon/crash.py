"""Which node a compiler crashed on that died without a word: found by compiling beginnings of the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accel import progress
from accel.errors import AccelError
from accel.toolchain.spec import Environment

from accel_horizon.job import Job, run_job

_LIMIT = 16
"""Runs at most: enough for 65,536 nodes."""


def blame(error: AccelError, env: Environment, job: Job, workspace: Path) -> AccelError:
    """The error with the first node named whose network, cut behind it, crashes the compiler too.

    Args:
        error: ``failed.compiler-crash``.
        env: The toolchain.
        job: What crashed it.
        workspace: A directory to work in.
    """
    from accel.builtin.prepare.cut import cut

    nodes = [n for n in job.model.proto.graph.node if n.output and n.op_type != "Constant"]
    fixed = {"kind": "fixed"}

    def crashes(at: int, compile_too: bool) -> bool:
        folder = workspace / f"bisect{at}{'c' if compile_too else 'q'}"
        folder.mkdir()
        try:
            part = cut(job.model, [nodes[at].output[0]])
        except AccelError:
            return False  # a tensor of unknown type: look further
        inputs = {n: i for n, i in job.inputs.items() if n in {s.name for s in part.inputs}}
        wanted = replace(job.wanted, nodes={}, cache=None, flags=job.wanted.flags.replace("--O2", "--O0"))
        try:
            run_job(
                env,
                Job(part, job.march, inputs, wanted, fixed, compile=compile_too),
                folder,
                folder / "log",
                stage="build",
            )
        except AccelError as found:
            return found.code == "failed.compiler-crash"
        return False

    progress.message("The compiler crashed without a message; looking for the node by compiling parts of the network.")
    last = len(nodes) - 1
    for compile_too in (False, True):
        if not crashes(last, compile_too):
            continue
        low, high, runs = 0, last, 1
        while low < high and runs < _LIMIT:
            middle = (low + high) // 2
            runs += 1
            if crashes(middle, compile_too):
                high = middle
            else:
                low = middle + 1
        node = nodes[high]
        error.node = node.name
        error.cause = (
            f"the network cut behind {node.op_type} {node.name} is the shortest beginning that crashes it too "
            f"(found in {runs} runs); {error.cause}"
        )
        error.hints = (
            f"Run the node on the CPU: --set run_on_cpu={node.name}",
            f"Or end the network before it: --output-names {node.input[0] if node.input else ''}",
            *error.hints,
        )
        return error
    error.hints = (*error.hints, "The crash needs the real thresholds: try --calibrator vendor or another --method.")
    return error

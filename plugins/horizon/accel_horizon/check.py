"""``accel_check``: where each node would run, from hmct's own placement, before any calibration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from accel.model import Model
from accel.options import BuildOptions
from accel.report import NodeSupport
from accel.target import Target


def check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
    """See :meth:`accel.hookspecs.AccelSpec.accel_check`. None without the toolchain: the embedded check answers."""
    from accel.toolchain.find import find, require

    from accel_horizon.inputs import chip_inputs
    from accel_horizon.job import Job, run_job
    from accel_horizon.placement import as_support, cpu_costs, places
    from accel_horizon.prepare import for_horizon, static_shapes
    from accel_horizon.toolchain import HORIZON
    from accel_horizon.wanted import wanted

    env = require(HORIZON) if options.backend == "vendor" else find(HORIZON)
    if env is None or options.backend == "reference":
        return None
    asked = wanted(model, target, options)
    prepared = for_horizon(model, options.batches[0])
    job = Job(
        model=prepared,
        march=target.arch,
        inputs=chip_inputs(prepared, options, asked.input_type),
        wanted=asked,
        calibration={"kind": "fixed"},
        compile=False,
    )
    with tempfile.TemporaryDirectory(prefix="accel-horizon-") as folder:
        work = Path(folder) / "check"
        work.mkdir()
        result = run_job(env, job, work, Path(folder) / "horizon.log", stage="check")
    graph = prepared.proto.graph
    found = places(graph, result)
    return as_support(found, target.name, cpu_costs(graph, found, static_shapes(graph)))

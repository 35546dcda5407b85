"""``accel compile --show-args`` and ``--check-model``: what would be run, and whether what came out is right."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.cli.console import emit, table
from accel.cli.results import built_facts, built_text

if TYPE_CHECKING:
    from accel.cache import Cache
    from accel.dataset import Dataset, Sample
    from accel.deployment import Deployment
    from accel.errors import AccelError
    from accel.jobs import Job
    from accel.model import Model

LEAST_COSINE = 0.9
"""``--check-model`` fails an artifact whose worst output has a smaller cosine with float."""
SAMPLES = 4
"""Samples that ``--check-model`` compares on."""


def show_arguments(plan: Deployment, cache: Cache) -> None:
    """Every build with its options and the vendor's command lines. The network is read, nothing else is done."""
    from accel import deployment as work
    from accel import driver
    from accel.jobs import name_output
    from accel.manifests import asked

    model = work.parse(plan, cache)
    rows: list[dict[str, Any]] = []
    vendors = any(r.options.calibrator == "vendor" for r in plan.requests)
    data = work.dataset(plan, plan.calibration_data, model) if vendors else None
    for job in work.jobs(plan, data):
        named = name_output(job, model)
        lines = [shlex.join(words) for words in driver.commands(model, job.target, job.options)]
        options = {"method": job.options.method, **asked(job.options), "batches": list(job.options.batches)}
        rows.append(
            {
                "target": job.target.name,
                "precision": job.numerics.precision,
                "output": str(named.output),
                "inputs": [str(spec) for spec in model.inputs],
                "outputs": [str(spec) for spec in model.outputs],
                "options": options,
                "commands": lines,
            }
        )

    def text() -> str:
        parts = []
        for row in rows:
            facts = [("output", row["output"]), ("inputs", "; ".join(row["inputs"]))]
            facts += [("outputs", "; ".join(row["outputs"])), *((k, _shown(v)) for k, v in row["options"].items())]
            body = "\n".join(f"  {name}: {value}" for name, value in facts)
            commands = "\n".join(f"  $ {line}" for line in row["commands"])
            commands = commands or "  no command: the embedded reference builds it"
            parts.append(f"{row['target']} {row['precision']}\n{body}\n{commands}")
        return "\n\n".join(parts)

    emit({"model": model.name, "builds": rows}, text)


def build_checked(plan: Deployment, model: Model, cache: Cache) -> None:
    """Check each node, build, compare each artifact with float on a few samples, and say which passed.

    Raises:
        AccelError: ``unsupported.op`` before the build, ``accuracy.below`` after it.
    """
    from accel import deployment as work
    from accel import driver
    from accel.options import EvaluateOptions

    data = work.dataset(plan, plan.calibration_data, model)
    jobs = work.jobs(plan, data)
    support = [_supported(model, job) for job in jobs]
    built = work.build(plan, model, cache)
    samples = data if data is not None else _Noise(model)
    rows: list[dict[str, Any]] = []
    with driver.run_float(model) as reference:
        for one, places in zip(built, support, strict=True):
            with driver.run(one.artifact, plan.run) as runner:
                report = driver.evaluate(runner, samples, None, EvaluateOptions(samples=SAMPLES), against=reference)
            cosine = report.metric("cosine").value
            rows.append(
                {
                    "target": one.artifact.manifest.target,
                    "precision": one.artifact.manifest.precision,
                    "nodes": places,
                    "samples": report.metric("samples").value,
                    "cosine": cosine,
                    "verdict": "passed" if cosine is not None and cosine >= LEAST_COSINE else "FAILED",
                }
            )

    def text() -> str:
        cells = []
        for r in rows:
            nodes = ", ".join(f"{count} {place}" for place, count in r["nodes"].items())
            cells.append((r["target"], r["precision"], nodes, r["cosine"], r["verdict"]))
        head = ("target", "precision", "nodes", "cosine", "check")
        on = f"cosine of the worst output with float, {SAMPLES} samples at most; {LEAST_COSINE:g} is asked"
        return "\n".join([built_text(built), "", table(head, cells), on])

    emit({"artifacts": [built_facts(b) for b in built], "check": rows}, text, _failure(rows))


def _supported(model: Model, job: Job) -> dict[str, int]:
    from accel import driver
    from accel.errors import AccelError

    nodes = driver.check(model, job.target, job.options)
    bad = [n for n in nodes if not n.supported]
    if bad:
        raise AccelError(
            f"{len(bad)} of {len(nodes)} nodes do not run on {job.target.name}: {bad[0].op_type}",
            code="unsupported.op",
            stage="check",
            cause=bad[0].reason,
            node=bad[0].node,
            hints=["`accel check` lists them all."],
        )
    return dict(Counter(n.place or job.target.name for n in nodes))


def _failure(rows: list[dict[str, Any]]) -> AccelError | None:
    from accel.errors import AccelError

    failed = [r for r in rows if r["verdict"] != "passed"]
    if not failed:
        return None
    return AccelError(
        "the compiled network is not what the float network computes",
        code="accuracy.below",
        stage="check",
        cause="; ".join(f"{r['target']} {r['precision']}: cosine {r['cosine']:.4f}" for r in failed),
        hints=["`accel evaluate --layers` names the first layer that departs."],
    )


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class _Noise:
    """Samples when there is no data: normal noise of the inputs' shapes, always the same."""

    model: Model

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[Sample]:
        import numpy as np

        from accel.dataset import Sample

        rng = np.random.default_rng(0)
        for at in range(SAMPLES):
            arrays = {
                spec.name: rng.standard_normal([d if isinstance(d, int) else 1 for d in spec.shape]).astype(spec.dtype)
                for spec in self.model.inputs
            }
            yield Sample(f"noise {at}", arrays)

    @property
    def digest(self) -> str:
        return f"noise-{SAMPLES}"


if TYPE_CHECKING:

    def _is_dataset(noise: _Noise) -> Dataset:
        return noise

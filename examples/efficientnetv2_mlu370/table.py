"""Precision by batch on an MLU370: ``python examples/efficientnetv2_mlu370/table.py [TARGET]`` after ``make.py``.

Closeness to float is simulated by the embedded reference; throughput is the roofline's, an upper bound, unless the
artifacts were built by MagicMind and a card is there: then ``mm_run`` measures it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from accel import driver
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import EvaluateOptions, RunOptions
from accel.recipe import load
from accel.report import Metric

HERE = Path(__file__).resolve().parent
BATCHES = (1, 4, 8)


@dataclass(frozen=True)
class Row:
    """One precision: closeness to float, size of the artifact in bytes, samples a second by batch."""

    precision: str
    cosine: float
    agreement: float
    bytes: int
    throughput: dict[int, float]
    provenance: str


def rows(work: Path, target: str = "mlu370-s4", samples: int = 0, batches: tuple[int, ...] = BATCHES) -> Iterator[Row]:
    """Build and measure every precision of the recipe on the network in ``work``."""
    recipe = load(HERE)
    model = driver.prepare(driver.parse(work / "efficientnetv2_s.onnx"))
    calibration = driver.calibrate(
        model, driver.open_dataset(f"list:{work / 'calibration.txt'}", model, recipe.preprocessing)
    )
    photos = driver.open_dataset(f"list:{work / 'evaluation.txt'}", model, recipe.preprocessing)
    for request in recipe.requests:
        for precision in request.precisions:
            options = replace(request.options, precision=precision, batches=(batches[0],))
            made = driver.build(model, target, work / "table" / precision, options, calibration=calibration)
            with driver.run(made) as runner, driver.run_float(model) as against:
                report = driver.evaluate(runner, photos, None, EvaluateOptions(samples=samples), against=against)
            speeds = [_speed(made, b) for b in batches]
            yield Row(
                made.manifest.precision,
                float(report.metric("cosine").value or 0),
                float(report.metric("agreement").value or 0),
                sum(f.bytes for f in made.manifest.files if f.role == "model"),
                {b: float(s.value or 0) for b, s in zip(batches, speeds, strict=True) if s is not None},
                speeds[0].provenance if speeds[0] else "no published peak",
            )


def _speed(made: Artifact, batch: int) -> Metric | None:
    """Samples a second; None where the card's peak at this precision is not published (int16)."""
    try:
        return driver.perf(made, RunOptions(batch=batch)).metric(f"throughput b{batch}")
    except AccelError as error:
        if error.code != "unsupported.perf":
            raise
        return None


def main() -> None:
    """Print the table."""
    print("| precision | cosine | agreement | " + " | ".join(f"FPS, batch {b}" for b in BATCHES) + " | |")
    print("|---|---|---|" + "---|" * (len(BATCHES) + 1))
    for row in rows(HERE / "work", *sys.argv[1:2]):
        speeds = " | ".join(f"{row.throughput[b]:.0f}" if b in row.throughput else "" for b in BATCHES)
        print(f"| {row.precision} | {row.cosine:.4f} | {row.agreement:.2f} | {speeds} | {row.provenance} |", flush=True)


if __name__ == "__main__":
    main()

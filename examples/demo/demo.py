"""The demo: real weights and real photos to three chips, one table at the end.

python examples/demo/demo.py [--backend reference|auto|vendor] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "zoo"))

import make  # noqa: E402
import onnx  # noqa: E402
import photos  # noqa: E402
from accel import deployment, driver  # noqa: E402
from accel.cache import Cache  # noqa: E402
from accel.files import atomic_file  # noqa: E402
from accel.recipe import load  # noqa: E402
from accel.report import Report  # noqa: E402


@dataclass(frozen=True)
class Row:
    """One line of the table; ``cosine`` is of the logits against float, mean over the photos."""

    target: str
    precision: str
    backend: str
    top1: float
    top5: float
    cosine: float | None
    bytes: int
    seconds: float


def fetch(work: Path) -> None:
    """Write the network, the photo lists and the class names, unless they are there."""
    work.mkdir(parents=True, exist_ok=True)
    network = work / "efficientnet-lite0.onnx"
    if not network.is_file():
        with atomic_file(network) as temporary:
            onnx.save(make.efficientnet_lite0(), temporary)
    lists = {
        "calibration.txt": [str(p) for p in photos.calibration_photos()],
        "evaluation.txt": [f"{path} {label}" for path, label in photos.evaluation_photos()],
        "labels.txt": photos.class_names(),
    }
    for name, lines in lists.items():
        with atomic_file(work / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(output: Path | None = None, backend: str = "reference") -> list[Row]:
    """Do all of it.

    Args:
        output: Folder for the artifacts; None: ``work/build`` beside the recipe, where the inputs are too.
        backend: As for ``accel build``.

    Returns:
        The float model first, then a row a chip.
    """
    fetch(HERE / "work")
    plan = load(HERE / "accel.toml")
    requests = tuple(replace(r, options=replace(r.options, backend=backend)) for r in plan.requests)
    plan = replace(plan, output=output or plan.output, requests=requests)
    cache = Cache()
    model = deployment.parse(plan, cache)
    built = deployment.build(plan, model, cache)
    rows = [_float_row(plan, model)]
    for one in built:
        report = deployment.evaluate(plan, one.artifact, model)
        manifest = one.artifact.manifest
        size = sum(f.bytes for f in manifest.files if f.role == "model")
        rows.append(_row(report, manifest.target, manifest.precision, manifest.backend, size, one.seconds))
    return rows


def _float_row(plan: deployment.Deployment, model: driver.Model) -> Row:
    started = time.monotonic()
    data = deployment.dataset(plan, plan.evaluation_data, model)
    task = driver.make_task(plan.task, plan.task_options)
    assert data is not None
    with driver.run_float(model) as runner:
        report = driver.evaluate(runner, data, task)
    size = len(model.proto.SerializeToString())
    return _row(report, "float", "fp32", "ORT", size, time.monotonic() - started)


def _row(report: Report, target: str, precision: str, backend: str, size: int, seconds: float) -> Row:
    figures = {m.name: m.value for m in report.metrics}
    return Row(target, precision, backend, figures["top1"], figures["top5"], figures.get("cosine"), size, seconds)


def main() -> None:
    """Run from the command line; ``accel demo`` does the same with progress and ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="reference")
    parser.add_argument("--output", type=Path, default=None)
    given = parser.parse_args()
    words = ["demo", "--backend", given.backend]
    words += ["-o", str(given.output)] if given.output else []
    from accel.cli.main import run as command

    sys.exit(command(words))


if __name__ == "__main__":
    main()

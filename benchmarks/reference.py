"""The embedded reference on real weights and photos: INT8 accuracy, and speed beside plain inference.

Beside our accuracy stands what onnxruntime's quantize_static reaches in the same run: same photos, symmetric INT8,
weights per channel, its best of MinMax and Percentile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from accel import driver
from accel.numerics import stored_int
from accel.options import RunOptions
from accel.runner import Runner
from accel.target import Target
from table import Row
from turns import cpu_in_turns, plain_session
from zoo import Case, Quality, case, compare, logits, onnxruntime_static

CHIP = Target("int8-per-channel", "benchmark", "symmetric INT8, weights per channel", {"int8": stored_int(8)})

BARS = {"efficientnet-lite0": Quality(18.8, 0.987, 28), "mobilenet-v2": Quality(15.0, 0.978, 29)}
"""The best that onnxruntime's quantize_static and esp-ppq were measured to reach on these weights and 31 photos."""


def accuracy(found: Case, ours: Quality) -> Iterator[Row]:
    """Our logits beside the float network's."""
    bar = BARS[found.name]
    reached = [compare(found.logits, onnxruntime_static(found, method)) for method in ("MinMax", "Percentile")]
    theirs = max(reached, key=lambda quality: quality.sqnr)

    def row(what: str, value: float, limit: float, unit: str, beside: str) -> Row:
        detail = f"onnxruntime in this run: {beside}"
        return Row(f"{found.name} INT8: {what}", value, limit, at_least=True, unit=unit, detail=detail)

    yield row("mean SQNR", ours.sqnr, bar.sqnr, "dB", f"{theirs.sqnr:.1f}")
    yield row("mean cosine", ours.cosine, bar.cosine, "", f"{theirs.cosine:.3f}")
    yield row("first class as float", ours.agree, bar.agree, f"of {len(found.inputs)}", f"{theirs.agree}")


def speed(found: Case, runner: Runner) -> Row:
    """Samples a CPU second, one thread each."""
    session = plain_session(found.model.proto.SerializeToString())
    feed = {found.input_name: found.inputs[0]}
    plain, ours = cpu_in_turns([lambda: session.run(None, feed), lambda: runner.run(feed)])
    detail = f"{ours * 1e3:.1f} and {plain * 1e3:.1f} CPU ms a sample"
    what = f"{found.name}: reference INT8 / plain float throughput"
    return Row(what, plain / ours, 0.5, at_least=True, detail=detail)


def rows() -> Iterator[Row]:
    """Everything this benchmark shows."""
    for name in BARS:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            found = case(name, folder)
            calibration = driver.calibrate(found.model, found.calibration)
            artifact = driver.build(found.model, CHIP, folder / "a", calibration=calibration)
            with driver.run(artifact, RunOptions(threads=1)) as runner:
                got = logits(
                    lambda array, r=runner, n=found.input_name: next(iter(r.run({n: array}).values())), found.inputs
                )
                yield from accuracy(found, compare(found.logits, got))
                yield speed(found, runner)


if __name__ == "__main__":
    for row in rows():
        print(*row.cells(), sep="  |  ", flush=True)

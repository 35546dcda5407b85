"""A bmodel on a device: inference through sophon-sail, time by ``bmrt_test``."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.report import Metric, Report
from accel.toolchain import process
from accel.toolchain.find import require
from accel.toolchain.worker import Worker

from accel_sophon.runtime import SOPHON_RUNTIME

SCRIPT = Path(__file__).parent / "vendor_side" / "device.py"
LOOPS = 20
"""Runs that ``bmrt_test`` makes one after the other."""


class Device:
    """One worker with a bmodel open on a device; the counterpart of a simulator.

    Args:
        number: Of the device.
        path: The bmodel.
    """

    def __init__(self, number: int, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="accel-sophon-")
        folder = Path(self._folder.name)
        self.log = folder / "device.log"
        self._worker = Worker(require(SOPHON_RUNTIME), SCRIPT, cwd=folder, log=self.log)
        try:
            params = {"path": str(path.resolve()), "device": number}
            self.description, _ = self._worker.call("open_device", params, timeout=600)
        except BaseException:
            self.close()
            raise

    def infer(self, feeds: Mapping[str, Any], *, fetch: list[str] | str | None = None) -> dict[str, Any]:
        """Outputs by the bmodel's names, as float32; a device shows nothing else."""
        return self._worker.call("infer_device", {}, feeds)[1]

    def close(self) -> None:
        """End the worker and delete its directory. May be called twice."""
        self._worker.close()
        self._folder.cleanup()


@dataclass(frozen=True)
class Timing:
    """What ``bmrt_test`` printed, medians over its runs, in seconds.

    Attributes:
        launch: The network alone, as its launcher saw it.
        tpu: The part of it on the TPU, None where the tool does not say.
        load: Moving the inputs to the device.
        get: Moving the outputs back.
        runs: How many runs.
    """

    launch: float
    tpu: float | None
    load: float
    get: float
    runs: int


def parse_timing(text: str) -> Timing:
    """Read the output of ``bmrt_test``.

    Raises:
        AccelError: ``failed.device`` when it has no times.
    """
    launches = re.findall(r"launch total time is (\d+) us(?: \(npu (\d+) us)?", text)
    calculated = [float(v) for v in re.findall(r"calculate +time\(s\): ([\d.]+)", text)]
    load = [float(v) for v in re.findall(r"load input time\(s\): ([\d.]+)", text)]
    get = [float(v) for v in re.findall(r"get output time\(s\): ([\d.]+)", text)]
    if not (launches or calculated) or not load or not get:
        raise AccelError(
            "bmrt_test printed no times", code="failed.device", stage="perf", cause="\n".join(text.splitlines()[-3:])
        )
    whole = [int(t) / 1e6 for t, _ in launches] or calculated
    tpu = [int(n) / 1e6 for _, n in launches if n]
    return Timing(
        statistics.median(whole),
        statistics.median(tpu) if tpu else None,
        statistics.median(load),
        statistics.median(get),
        len(whole),
    )


def measured(artifact: Artifact, number: int, batch: int, options: RunOptions) -> Report:
    """Time of a run on the device.

    Raises:
        AccelError: ``toolchain.broken`` without the tool, ``failed.device``, ``usage.option`` for a single core.
    """
    if options.core:
        raise AccelError("bmrt_test measures all cores a bmodel was built for", code="usage.option", stage="perf")
    env = require(SOPHON_RUNTIME)
    tool = env.root / "bin" / "bmrt_test"
    if not tool.is_file():
        raise AccelError(
            "bmrt_test is not installed", code="toolchain.broken", stage="perf", cause=f"there is no {tool}"
        )
    # A file of several batches holds the largest first.
    stage = sorted(artifact.manifest.batches, reverse=True).index(batch)
    bmodel = artifact.file("model")
    words = ["--bmodel", str(bmodel.resolve()), "--devid", str(number), "--loopnum", str(options.frames or LOOPS)]
    words += ["--thread_num", str(options.threads)] if options.threads > 1 else []
    words += ["--stage_idx", str(stage)] if len(artifact.manifest.batches) > 1 else []
    with tempfile.TemporaryDirectory(prefix="accel-sophon-") as folder:
        log = Path(folder) / "bmrt_test.log"
        done = process.run(env, [str(tool), *words], cwd=Path(folder), log=log, timeout=1800, stage="perf")
        if done.rc:
            raise AccelError(
                f"bmrt_test failed on device {number} (exit code {done.rc})",
                code="failed.device",
                stage="perf",
                cause=done.tail(3),
                hints=["`bm-smi` shows the device's state."],
            )
        found = parse_timing(done.text())
    source = f"bmrt_test, median of {found.runs}"
    metrics = [Metric("latency", found.launch * 1000, "ms", "measured", source)]
    if found.tpu is not None:
        metrics.append(Metric("tpu", found.tpu * 1000, "ms", "measured", source))
    metrics += [
        Metric("fps", batch / found.launch if found.launch else None, "FPS", "measured", source),
        Metric("load_input", found.load * 1000, "ms", "measured", source),
        Metric("get_output", found.get * 1000, "ms", "measured", source),
    ]
    manifest = artifact.manifest
    return Report(
        title=f"bmrt_test on device {number}, batch {batch}",
        metrics=tuple(metrics),
        notes=("latency is the network alone; moving inputs and outputs comes on top",),
        commands=(f"accel perf {artifact.path} --device {number}",),
        subject={"target": manifest.target, "precision": manifest.precision, "artifact": str(artifact.path)},
    )

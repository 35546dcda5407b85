"""One run of the vendor's compiler: a directory of its own, ``job.json`` in, files and ``result.json`` out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import progress
from accel.errors import AccelError
from accel.model import Model
from accel.toolchain.spec import Environment

from accel_horizon.failures import failure
from accel_horizon.inputs import ChipInput
from accel_horizon.toolchain import VENDOR_SIDE
from accel_horizon.wanted import Wanted

if TYPE_CHECKING:
    from accel.dataset import Dataset

TIMEOUT = 4 * 3600.0
"""Seconds: O3 of a large network on two cores takes minutes to an hour."""

_STAGES = {"quantize": "Quantising for Horizon", "compile": "Compiling with hbdk-cc"}


@dataclass(frozen=True)
class Job:
    """What is compiled.

    Attributes:
        model: Already in Horizon's form.
        march: ``bayes``, ``bayes-e``, ``bernoulli2``.
        inputs: What the chip is fed.
        wanted: Options.
        calibration: ``{"kind": "accel", "ranges": ...}``, ``{"kind": "vendor", ...}`` or ``{"kind": "fixed"}``.
        compile: False: stop after quantisation (a check).
    """

    model: Model
    march: str
    inputs: Mapping[str, ChipInput]
    wanted: Wanted
    calibration: Mapping[str, Any]
    compile: bool = True

    def write(self, folder: Path) -> None:
        """``job.json`` and ``model.onnx``."""
        import onnx

        onnx.save(self.model.proto, str(folder / "model.onnx"))
        text = {
            "model": "model.onnx",
            "march": self.march,
            "prefix": self.model.proto.graph.name,
            "flags": self.wanted.flags + (" --cache cache.json" if self.wanted.cache else ""),
            "optimization": list(self.wanted.optimization),
            "nodes": dict(self.wanted.nodes),
            "inputs": {n: i.as_dict() for n, i in self.inputs.items()},
            "calibration": dict(self.calibration),
            "stop_after": "compile" if self.compile else "quantize",
        }
        (folder / "job.json").write_text(json.dumps(text, indent=1), encoding="utf-8")


def run_job(env: Environment, job: Job, folder: Path, log: Path, *, stage: str = "build") -> dict[str, Any]:
    """Run ``job`` in ``folder`` (empty, its own).

    Returns:
        ``result.json``: ``placement``, ``calibration``, ``node_types``, ``notes``, ``versions``, ``seconds``.

    Raises:
        AccelError: what the compiler refused, in its own words with the node and what to do about it.
    """
    from accel.toolchain.process import run

    job.write(folder)
    cache = _take_cache(job, folder)
    with progress.step(_STAGES["quantize"], 100) as step:
        shown = [0]

        def on_line(line: str) -> None:
            if line.startswith("accel-stage: "):
                if told := _STAGES.get(line.removeprefix("accel-stage: ").strip()):
                    progress.message(told)
            elif (found := re.search(r"\]\s*(\d+)%$", line.strip())) and int(found.group(1)) > shown[0]:
                shown[0] = int(found.group(1))
                step.at(shown[0])

        done = run(
            env,
            [env.python, VENDOR_SIDE / "build_model.py", "job.json"],
            cwd=folder,
            log=log,
            timeout=TIMEOUT,
            on_line=on_line,
            stage=stage,
            variables={"TMPDIR": str(folder), "PYTHONHASHSEED": "0"},
        )
    result = folder / "result.json"
    if done.rc or not result.is_file():
        raise failure(done, job.model, stage=stage)
    if cache and cache.is_file() and job.wanted.cache:
        job.wanted.cache.parent.mkdir(parents=True, exist_ok=True)
        cache.replace(job.wanted.cache)
    made: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return made


def _take_cache(job: Job, folder: Path) -> Path | None:
    """hbdk-cc rewrites its cache in place: it gets a copy, which takes the old one's place when all went well."""
    import shutil

    if job.wanted.cache is None:
        return None
    cache = folder / "cache.json"
    if job.wanted.cache.is_file():
        shutil.copyfile(job.wanted.cache, cache)
    return cache


def write_samples(dataset: Dataset, inputs: Mapping[str, ChipInput], folder: Path, limit: int = 0) -> dict[str, Any]:
    """Calibration samples as files the compiler reads, one a sample and input; pictures as it wants them.

    Returns:
        Paths by input, relative to ``folder``.

    Raises:
        AccelError: ``usage.dataset`` when there is no sample.
    """
    import numpy as np

    files: dict[str, list[str]] = {name: [] for name in inputs}
    with progress.step("Writing calibration samples") as step:
        for at, sample in enumerate(dataset):
            if limit and at >= limit:
                break
            for number, (name, given) in enumerate(inputs.items()):
                array = np.asarray(sample.inputs[name], dtype=np.float32)
                if given.rt_type != "featuremap":
                    from accel_horizon.inputs import to_chip

                    array = to_chip(array, given, integer=False)
                path = f"sample_{at:05d}_{number}.npy"
                np.save(folder / path, array)
                files[name].append(path)
            step.advance()
    if not all(files.values()):
        raise AccelError("the calibration data set is empty", code="usage.dataset")
    return files

"""``accel_run``: the stages of a built model, each in the vendor's own simulator.

========== ====================================================================================
float      hmct's copy of the network before optimisation and tuning, in float
calibrated tuned, activations and weights rounded to their codes, arithmetic in float
quantized  the chip's integer arithmetic, bit-exact, on hmct's ONNX Runtime: for many images
hbm        the very ``.hbm`` in hbdk's simulator, the host's nodes around it: for spot checks
========== ====================================================================================
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from accel.artifact import Artifact
from accel.errors import AccelError
from accel.options import RunOptions
from accel.runner import Provenance

from accel_horizon.inputs import ChipInput, to_chip
from accel_horizon.toolchain import HORIZON, VENDOR_SIDE

if TYPE_CHECKING:
    import numpy as np

STAGES = ("float", "calibrated", "quantized", "hbm")
_ALIASES = {"": "quantized", "chip": "hbm", "fixed": "quantized"}


class HorizonRunner:
    """One stage of an artifact, open in a worker of the toolchain.

    Args:
        artifact: Payload ``hbm``.
        options: ``simulator`` is one of ``STAGES`` (``chip`` is ``hbm``); ``batch`` one of the artifact's.

    Raises:
        AccelError: ``usage.simulator``, ``usage.batch``, ``usage.device``; ``toolchain.missing``.
    """

    provenance: Provenance = "simulated"

    def __init__(self, artifact: Artifact, options: RunOptions) -> None:
        from accel.toolchain.find import require
        from accel.toolchain.worker import Worker

        manifest = artifact.manifest
        self.stage = _ALIASES.get(options.simulator, options.simulator)
        if self.stage not in STAGES:
            raise AccelError(
                f"Horizon has no simulator {options.simulator!r}",
                code="usage.simulator",
                hints=[f"Choose one of: {', '.join(STAGES)}."],
            )
        if options.device not in ("auto", "simulator"):
            raise AccelError(
                f"device {options.device!r}: a Horizon board runs the .hbm itself, with hrt_model_exec",
                code="usage.device",
                hints=["Copy the .hbm to the board; `accel perf` reads the profile it writes."],
            )
        batch = options.batch or manifest.batches[0]
        if batch not in manifest.batches:
            raise AccelError(
                f"the artifact has no batch {batch}",
                code="usage.batch",
                hints=[f"It was built for batch {', '.join(map(str, manifest.batches))}."],
            )
        if self.stage == "hbm" and "--core-num 2" in manifest.options.get("flags", ""):
            raise AccelError(
                "hmct's simulator runs programs for one core",
                code="unsupported.simulator",
                hints=["Use --simulator quantized, which gives the same numbers."],
            )
        self.batch = batch
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.device = f"{manifest.target} {'hbdk-sim' if self.stage == 'hbm' else self.stage + ' (hmct)'}"
        self._given = {n: ChipInput.from_dict(d) for n, d in _dict(manifest.details["inputs"]).items()}
        self._scales = {n: c["scales"] for n, c in _dict(manifest.details["calibration"]).items()}
        self._zeros = {n: _zero(c) for n, c in _dict(manifest.details["calibration"]).items()}
        self._folder = Path(tempfile.mkdtemp(prefix="accel-horizon-run-"))
        self._worker: Worker | None = None
        try:
            env = require(HORIZON)
            threads = str(options.threads) if options.threads else ""
            variables = {"OMP_NUM_THREADS": threads} if threads else {}
            self._worker = Worker(
                env,
                VENDOR_SIDE / "run_model.py",
                cwd=self._folder,
                log=self._folder / "worker.log",
                variables=variables,
            )
            self._opened, _ = self._worker.call("open", self._open_params(artifact))
        except BaseException:
            self.close()
            raise
        self._layers: dict[str, dict[str, Any]] = self._opened["layers"]
        self._dtypes = {i["name"]: i["type"] for i in self._opened["inputs"]}

    def _open_params(self, artifact: Artifact) -> dict[str, Any]:
        at = artifact.manifest.batches.index(self.batch)
        role = {"hbm": "host"}.get(self.stage, self.stage)
        model = [artifact.path / f.path for f in artifact.manifest.files if f.role == role][at]
        params: dict[str, Any] = {"model": str(model.resolve())}
        if self.stage == "hbm":
            params["hbm"] = str(artifact.file("model").resolve())
        elif self.stage == "quantized":
            params["layers"] = [n for n, s in self._scales.items() if len(s) == 1]
        else:
            params["layers"] = list(self._scales)
        return params

    def layers(self) -> tuple[str, ...]:
        """Inner tensors that the compiler kept under the float model's name."""
        inputs = {i.name for i in self.inputs}
        return tuple(n for n in self._layers if n not in inputs)

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """See :meth:`accel.runner.Runner.run`. Any number of samples: they are run batch by batch."""
        import numpy as np

        wanted = tuple(fetch) if fetch is not None else tuple(o.name for o in self.outputs)
        outputs = {o.name for o in self.outputs}
        for name in wanted:
            if name not in outputs and name not in self._layers:
                raise AccelError(f"{self.device} shows no tensor {name!r}", code="usage.fetch")
        count = self._check(feeds)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for start in range(0, count, self.batch):
            piece = {n: a[start : start + self.batch] for n, a in feeds.items()}
            short = self.batch - min(self.batch, count - start)
            if short:
                piece = {n: np.concatenate([a, np.repeat(a[-1:], short, axis=0)]) for n, a in piece.items()}
            for name, array in self._infer(piece, wanted).items():
                parts[name].append(array[: self.batch - short] if array.ndim else array)
        return {name: np.concatenate(arrays) if arrays[0].ndim else arrays[0] for name, arrays in parts.items()}

    def _infer(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        import numpy as np

        assert self._worker is not None
        outputs = {o.name for o in self.outputs}
        names = {n: n if n in outputs else self._layers[n]["name"] for n in wanted}
        _, results = self._worker.call(
            "infer", {"fetch": list(dict.fromkeys(names.values()))}, {n: self._feed(n, a) for n, a in feeds.items()}
        )
        made = {}
        for name, vendor in names.items():
            array = np.asarray(results[vendor])
            if name not in outputs and vendor != name:  # codes
                if self._layers[name]["nhwc"] and array.ndim == 4:
                    array = array.transpose(0, 3, 1, 2)
                array = (array.astype(np.float32) - self._zeros[name]) * np.float32(self._scales[name][0])
            made[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return made

    def _feed(self, name: str, array: np.ndarray) -> np.ndarray:
        import numpy as np

        given = self._given[name]
        if given.rt_type == "featuremap":
            return array
        fed = to_chip(array, given, integer=self._dtypes[name] == _INT8)
        if given.rt_type == "nv12" and self.stage == "hbm":
            # The program for the image pyramid takes the bytes as a camera gives them, 0 to 255.
            fed = (fed.astype(np.int16) + 128).astype(np.uint8).view(np.int8)
        return fed

    def _check(self, feeds: Mapping[str, np.ndarray]) -> int:
        import numpy as np

        names = {i.name for i in self.inputs}
        if set(feeds) != names:
            raise AccelError(
                f"the network's inputs are {', '.join(sorted(names))}; given: {', '.join(sorted(feeds)) or 'none'}",
                code="usage.input",
            )
        counts = set()
        for spec in self.inputs:
            array = feeds[spec.name]
            if array.ndim != len(spec.shape) or array.shape[1:] != tuple(spec.shape[1:]) or not len(array):
                raise AccelError(f"input {spec} was given {array.dtype}{list(array.shape)}", code="usage.input")
            if array.dtype != np.dtype(spec.dtype):
                raise AccelError(f"input {spec} was given {array.dtype} values", code="usage.input")
            counts.add(len(array))
        if len(counts) != 1:
            raise AccelError("the inputs differ in their number of samples", code="usage.input")
        return int(counts.pop())

    def close(self) -> None:
        """End the worker and remove its directory."""
        if self._worker is not None:
            self._worker.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> HorizonRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_INT8 = 3  # onnx.TensorProto.INT8


def _zero(calibration: Mapping[str, Any]) -> int:
    """Zero point of a tensor's stored codes: those without a sign are stored as signed ones, 128 below."""
    if calibration["qtype"] == "uint8":
        return -128
    return int(calibration["zero_point"][0]) if calibration["zero_point"] else 0


def _dict(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value

"""Running a MagicMind model on a card, in the SDK's Python."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.options import RunOptions
from accel.runner import Provenance
from accel.toolchain.find import require
from accel.toolchain.worker import Worker

from accel_mlu.magicmind.build import SDK
from accel_mlu.magicmind.toolchain import MAGICMIND, cards


def card_number(options: RunOptions) -> int:
    """Which card the user means.

    Raises:
        AccelError: ``toolchain.device`` when this machine has none, ``usage.device`` for something else than a number.
    """
    if options.device == "simulator" or options.simulator:
        raise AccelError(
            "MagicMind has no simulator",
            code="unsupported.simulator",
            hints=["Build with --backend reference: it computes the chip's arithmetic on any machine."],
        )
    if options.device not in ("auto", "") and not options.device.isdigit():
        raise AccelError(f"there is no device {options.device!r}", code="usage.device", hints=["Give a card's number."])
    if not cards():
        raise AccelError(
            "no MLU card on this machine",
            code="toolchain.device",
            cause="no device node /dev/cambricon_dev*",
            hints=["Run it on the card's machine, or build with --backend reference to run anywhere."],
        )
    return int(options.device) if options.device.isdigit() else 0


class MagicMindRunner:
    """An opened MagicMind model; see :class:`accel.runner.Runner`."""

    provenance: Provenance = "measured"

    def __init__(self, artifact: Artifact, options: RunOptions) -> None:
        manifest = artifact.manifest
        number = card_number(options)
        environment = require(MAGICMIND)
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.device = f"{manifest.target} #{number}"
        self._spans = _spans(manifest.details)
        uint8 = manifest.details.get("uint8_inputs")
        self._uint8 = set(uint8) if isinstance(uint8, list) else set()
        self._scratch = tempfile.TemporaryDirectory(prefix="accel-mlu-")
        scratch = Path(self._scratch.name)
        self._worker = Worker(environment, SDK, cwd=scratch, log=scratch / "magicmind.log", stage="run")
        try:
            self._worker.call("open", {"model": str(artifact.file("model").resolve()), "device": number})
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Compute the outputs; see :meth:`accel.runner.Runner.run`."""
        names = [o.name for o in self.outputs]
        unknown = [f for f in fetch or () if f not in names]
        if unknown:
            raise AccelError(
                f"the model shows no tensor {unknown[0]!r}", code="usage.input", hints=[f"It has {names}."]
            )
        extra = sorted(set(feeds) - {i.name for i in self.inputs})
        if extra:
            raise AccelError(f"the model has no input {extra[0]!r}", code="usage.input")
        arrays = {str(at): self._fed(spec, at, feeds) for at, spec in enumerate(self.inputs)}
        _, results = self._worker.call("infer", {}, arrays)
        found = {name: _floating(results[str(at)]) for at, name in enumerate(names)}
        return {name: found[name] for name in fetch or names}

    def layers(self) -> tuple[str, ...]:
        """None: MagicMind shows no inner tensors."""
        return ()

    def close(self) -> None:
        """End the session and the process."""
        self._worker.close()
        self._scratch.cleanup()

    def __enter__(self) -> MagicMindRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fed(self, spec: TensorSpec, at: int, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        if spec.name not in feeds:
            raise AccelError(f"input {spec.name!r} is not given", code="usage.input")
        array = np.asarray(feeds[spec.name])
        low, high = self._spans.get(at, (spec.shape, spec.shape))
        right = len(array.shape) == len(spec.shape) and all(
            (want == have) if isinstance(want, int) else (least <= have <= most)
            for want, have, least, most in zip(spec.shape, array.shape, low, high, strict=True)
        )
        if not right:
            allowed = f", from {list(low)} to {list(high)}" if at in self._spans else ""
            raise AccelError(
                f"input {spec.name!r} has shape {list(array.shape)}",
                code="usage.input",
                cause=f"the model takes {spec}{allowed}",
            )
        if spec.name in self._uint8:
            if array.dtype != np.uint8 and (np.any(array < 0) or np.any(array > 255) or not np.isfinite(array).all()):
                raise AccelError(
                    f"input {spec.name!r} wants pixels of 0..255",
                    code="usage.input",
                    cause="mean and std are inside the network",
                )
            return np.asarray(np.rint(array), np.uint8)
        if array.dtype.kind not in "fiub":
            raise AccelError(f"input {spec.name!r} has dtype {array.dtype}", code="usage.input")
        return np.asarray(array, spec.dtype)


def _floating(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _spans(details: Mapping[str, object]) -> dict[int, tuple[list[int], list[int]]]:
    """Shapes allowed by input index, for a model whose shapes may change."""
    config = details.get("builder_config")
    ranges = config.get("dim_range") if isinstance(config, Mapping) else None
    return {int(i): (r["min"], r["max"]) for i, r in ranges.items()} if isinstance(ranges, Mapping) else {}

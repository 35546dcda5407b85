"""accel_run: a bmodel artifact in one of the vendor's two simulators."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from accel.artifact import Artifact
from accel.errors import AccelError
from accel.files import safe_join
from accel.model import TensorSpec
from accel.options import RunOptions
from accel.runner import Provenance
from accel.toolchain.find import require

from accel_sophon.device import Device
from accel_sophon.runtime import chosen_device
from accel_sophon.simulators import SIMULATORS, Simulator
from accel_sophon.toolchain import SOPHON
from accel_sophon.verify import output_location


class SophonRunner:
    """Runs the compiled network in worker processes. A feed of several batches is spread over them."""

    provenance: Provenance = "simulated"

    def __init__(self, artifact: Artifact, options: RunOptions) -> None:
        manifest = artifact.manifest
        self.inputs: tuple[TensorSpec, ...] = manifest.inputs
        self.outputs: tuple[TensorSpec, ...] = manifest.outputs
        number = chosen_device(options.device, options.simulator)
        self._kind = options.simulator or ("mlir" if number is None else "device")
        if number is None and self._kind not in SIMULATORS:
            raise AccelError(
                f"Sophon has no simulator {self._kind!r}",
                code="usage.simulator",
                hints=["mlir: fast, the compiler's own; cmodel: the very .bmodel, seconds an image."],
            )
        self.batch = options.batch or manifest.batches[0]
        if self.batch not in manifest.batches:
            raise AccelError(
                f"the artifact runs at batch {', '.join(map(str, manifest.batches))}, not {self.batch}",
                code="usage.batch",
            )
        details: Any = manifest.details
        about = details["simulators"][str(self.batch)]
        arch = str(details["arch"])
        self._renamed: dict[str, str] = about["renamed"]
        self._places: dict[str, str] = about["layers"]
        self.device = f"{manifest.target} {'compiler simulator' if self._kind == 'mlir' else 'cmodel'}"
        if number is not None:
            self.device, self.provenance = f"{manifest.target} #{number}", "measured"
        path = safe_join(artifact.path, about["mlir"]) if self._kind == "mlir" else artifact.file("model")
        self._free: queue.Queue[Simulator | Device] = queue.Queue()
        self._all: list[Simulator | Device] = []
        try:
            for _ in range(max(1, options.workers)):
                opened = Simulator(require(SOPHON), self._kind, arch, path) if number is None else Device(number, path)
                self._all.append(opened)
                self._free.put(self._all[-1])
            self._outputs = self._named(self._all[0])
        except BaseException:
            self.close()
            raise

    def _named(self, simulator: Simulator | Device) -> dict[str, str]:
        """The simulator's name of each output: it lists them in the network's order, under names of its own."""
        listed = [o if isinstance(o, str) else str(o["name"]) for o in simulator.description["outputs"]]
        if len(listed) != len(self.outputs):
            raise AccelError(
                f"the compiled network has {len(listed)} outputs, not {len(self.outputs)}",
                code="artifact.incomplete",
                hints=["Build it again."],
            )
        tensor_at = {place: tensor for tensor, place in self._places.items()}
        by_name = {tensor_at.get(output_location(name, tensor_at), name): name for name in listed}
        wanted = [spec.name for spec in self.outputs]
        return by_name if set(wanted) == set(by_name) else dict(zip(wanted, listed, strict=True))

    def layers(self) -> tuple[str, ...]:
        """Inner tensors, by the model's names; the cmodel shows none."""
        return tuple(self._places) if self._kind == "mlir" else ()

    def run(self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None) -> dict[str, Any]:
        """See :class:`accel.runner.Runner`."""
        arrays = self._checked(feeds)
        wanted = list(fetch) if fetch is not None else [spec.name for spec in self.outputs]
        unknown = [n for n in wanted if n not in self._places and n not in {s.name for s in self.outputs}]
        if unknown:
            raise AccelError(f"the runner shows no tensor {unknown[0]!r}", code="usage.layer", stage="run")
        total = next(iter(arrays.values())).shape[0]
        parts = [{name: a[at : at + self.batch] for name, a in arrays.items()} for at in range(0, total, self.batch)]
        if len(parts) == 1:
            return self._one(parts[0], wanted)
        with ThreadPoolExecutor(len(self._all)) as pool:
            results = list(pool.map(lambda part: self._one(part, wanted), parts))
        return {name: np.concatenate([r[name] for r in results])[:total] for name in wanted}

    def _one(self, feeds: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
        count = next(iter(feeds.values())).shape[0]
        if count < self.batch:  # the last part: filled up with its last sample
            feeds = {n: np.concatenate([a, np.repeat(a[-1:], self.batch - count, axis=0)]) for n, a in feeds.items()}
        names = {self._renamed.get(n, n): a for n, a in feeds.items()}
        simulator = self._free.get()
        try:
            if self._kind == "mlir":
                places = [self._outputs.get(n) or self._places[n] for n in wanted]
                made = simulator.infer(names, fetch=places)
                found = {n: made[p] for n, p in zip(wanted, places, strict=True)}
            else:
                made = simulator.infer(names)
                found = {n: made[self._outputs[n]] for n in wanted}
        finally:
            self._free.put(simulator)
        return {n: self._shaped(n, np.asarray(a), count) for n, a in found.items()}

    def _shaped(self, name: str, array: Any, count: int) -> Any:
        spec = next((s for s in self.outputs if s.name == name), None)
        integer = spec is not None and spec.dtype.startswith(("int", "uint"))
        array = array.astype(spec.dtype if spec is not None and integer else np.float32)
        if spec is not None and all(isinstance(d, int) for d in spec.shape[1:]):
            array = array.reshape((self.batch, *spec.shape[1:])) if spec.shape else array
        return array[:count] if array.ndim and array.shape[0] == self.batch else array

    def _checked(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        known = {spec.name: spec for spec in self.inputs}
        for name in feeds:
            if name not in known:
                raise AccelError(
                    f"the network has no input {name!r}",
                    code="usage.input",
                    stage="run",
                    hints=[f"Its inputs: {', '.join(map(str, self.inputs))}"],
                )
        arrays = {}
        for name, spec in known.items():
            if name not in feeds:
                raise AccelError(f"input {name!r} is missing", code="usage.input", stage="run")
            array = np.asarray(feeds[name])
            fits = array.ndim == len(spec.shape) and all(
                not isinstance(d, int) or n == d for n, d in zip(array.shape[1:], spec.shape[1:], strict=True)
            )
            if not fits or array.shape[0] < 1:
                raise AccelError(
                    f"input {name!r} is {array.shape}, the network wants {spec}", code="usage.input", stage="run"
                )
            if array.dtype.kind not in "fiu":
                raise AccelError(f"input {name!r} is {array.dtype}, not numbers", code="usage.input", stage="run")
            arrays[name] = array.astype(np.float32, copy=False)
        return arrays

    def close(self) -> None:
        """End the workers. May be called twice."""
        for simulator in self._all:
            simulator.close()

    def __enter__(self) -> SophonRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

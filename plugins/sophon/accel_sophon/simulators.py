"""Starting simulator workers: each with a directory of its own, and a cmodel library of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel.errors import AccelError
from accel.toolchain.spec import Environment
from accel.toolchain.worker import Worker

SCRIPT = Path(__file__).parent / "vendor_side" / "simulate.py"
SIMULATORS = ("mlir", "cmodel")

_CMODEL = {
    "bm1684": "libcmodel_bm1684.so",
    "bm1684x": "libcmodel_bm1684x.so",
    "bm1688": "libcmodel_bm1688.so",
    "cv186x": "libcmodel_bm1688.so",
}


class Simulator:
    """One worker with one model open.

    Args:
        env: The toolchain.
        kind: ``mlir`` (the compiler's interpreter of its lowered graph) or ``cmodel`` (the bmodel itself).
        chip: The compiler's name of the chip.
        path: The ``*_tpu.mlir`` (its weights beside it) or the ``.bmodel``.
    """

    def __init__(self, env: Environment, kind: str, chip: str, path: Path) -> None:
        self.kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="accel-sophon-")
        folder = Path(self._folder.name)
        variables = {"OMP_NUM_THREADS": "2"}
        if kind == "cmodel":
            variables["LD_LIBRARY_PATH"] = self._private_library(env, chip, folder)
        self.log = folder / "simulator.log"
        self._worker = Worker(env, SCRIPT, cwd=folder, log=self.log, variables=variables)
        try:
            method = "open_mlir" if kind == "mlir" else "open_bmodel"
            self.description, _ = self._worker.call(method, {"path": str(path.resolve())}, timeout=600)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _private_library(env: Environment, chip: str, folder: Path) -> str:
        # The tools switch lib/libcmodel.so for everybody; a link of our own keeps two chips apart.
        library = _CMODEL.get(chip)
        lib = Path(env.variables["TPUC_ROOT"]) / "lib"
        if library is None or not (lib / library).exists():
            raise AccelError(f"there is no functional model of {chip}", code="unsupported.simulator")
        (folder / "lib").mkdir()
        (folder / "lib" / "libcmodel.so").symlink_to(lib / library)
        return f"{folder / 'lib'}:{env.variables['LD_LIBRARY_PATH']}"

    def infer(
        self, feeds: Mapping[str, Any], *, fetch: list[str] | str | None = None, raw: bool = False
    ) -> dict[str, Any]:
        """Arrays by the compiler's names; inputs as float32 or, where the chip takes them, integer codes.

        Args:
            feeds: By input name, of the compiled shape.
            fetch: Inner values too (``mlir`` only): names, or ``all``.
            raw: Also what the device would read and write, as ``in:NNN:name`` and ``out:NNN:name`` (``cmodel`` only).
        """
        if self.kind == "mlir":
            message, results = self._worker.call("infer_mlir", {"fetch": fetch}, feeds)
            if message["missing"]:
                raise AccelError(
                    f"the simulator shows no value {message['missing'][0]!r}", code="usage.layer", stage="run"
                )
            return results
        return self._worker.call("infer_bmodel", {"raw": raw}, feeds)[1]

    def close(self) -> None:
        """End the worker and delete its directory. May be called twice."""
        self._worker.close()
        self._folder.cleanup()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

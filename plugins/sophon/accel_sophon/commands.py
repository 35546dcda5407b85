"""The compiler's command-line tools, one function each: arguments in, files out, one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.process import Completed, run
from accel.toolchain.spec import Environment

from accel_sophon.hints import explain

TIME_LIMIT = 4 * 3600.0
"""Seconds a single tool may take; a guard against a hang, not a budget."""


@dataclass(frozen=True)
class Bench:
    """Where one compilation works: a directory of its own, and its log.

    Attributes:
        env: The toolchain.
        folder: Working directory: the tools write fixed names into it and look their weights up in it.
        log: Every command and what it said.
        on_line: Called with each line of output.
    """

    env: Environment
    folder: Path
    log: Path
    on_line: Callable[[str], None] | None = None

    def python(self, tool: str, arguments: Sequence[str], what: str, *, may_fail: bool = False) -> Completed:
        """Run one of the compiler's Python tools."""
        script = Path(self.env.variables["TPUC_ROOT"]) / "python" / "tools" / f"{tool}.py"
        return self._run([str(self.env.python), str(script), *arguments], what, may_fail)

    def program(self, tool: str, arguments: Sequence[str], what: str, *, may_fail: bool = False) -> Completed:
        """Run one of the compiler's programs."""
        return self._run([str(Path(self.env.variables["TPUC_ROOT"]) / "bin" / tool), *arguments], what, may_fail)

    def _run(self, command: list[str], what: str, may_fail: bool) -> Completed:
        done = run(
            self.env, command, cwd=self.folder, log=self.log, timeout=TIME_LIMIT, on_line=self.on_line, stage="build"
        )
        if done.rc and not may_fail:
            raise explain(done, what)
        return done


def transform(
    bench: Bench,
    name: str,
    source: Path,
    shapes: Sequence[Sequence[int]],
    *,
    weights: Path | None = None,
    output_names: Sequence[str] = (),
    preprocessing: Mapping[str, str] | None = None,
    dynamic: bool = False,
) -> Path:
    """A network to float MLIR (``model_transform.py``).

    Args:
        bench: Where to work; ``source`` must lie in its folder.
        name: Identifier; names every file.
        source: ``.onnx`` or ``.prototxt``.
        shapes: Input shapes in the network's order.
        weights: ``.caffemodel``.
        output_names: Cut the network here.
        preprocessing: ``mean``, ``scale``, ``pixel_format`` ... by option name.
        dynamic: Keep the named dynamic inputs dynamic.

    Raises:
        AccelError: what :mod:`accel_sophon.hints` makes of the log.
    """
    mlir = bench.folder / f"{name}.mlir"
    arguments = transform_arguments(name, source, shapes, weights, output_names, preprocessing, dynamic)
    done = bench.python("model_transform", arguments, "reading the network")
    # Some failures end with exit code 0 and an error on the terminal.
    if not mlir.exists() or ("onnxruntime::" in done.tail(40) and "Error" in done.tail(40)):
        raise explain(done, "reading the network")
    return mlir


def transform_arguments(
    name: str,
    source: Path,
    shapes: Sequence[Sequence[int]],
    weights: Path | None = None,
    output_names: Sequence[str] = (),
    preprocessing: Mapping[str, str] | None = None,
    dynamic: bool = False,
) -> list[str]:
    """What :func:`transform` calls the tool with."""
    arguments = ["--model_name", name, "--model_def", source.name, "--mlir", f"{name}.mlir"]
    arguments += ["--input_shapes", json.dumps([list(s) for s in shapes], separators=(",", ":"))]
    if weights:
        arguments += ["--model_data", weights.name]
    if output_names:
        arguments += ["--output_names", ",".join(output_names)]
    for option, value in (preprocessing or {}).items():
        arguments += [f"--{option}", value]
    return [*arguments, "--dynamic"] if dynamic else arguments


def deploy(
    bench: Bench,
    mlir: Path,
    bmodel: Path,
    *,
    chip: str,
    mode: str,
    calibration: Path | None = None,
    precisions: Path | None = None,
    extra: Sequence[str] = (),
) -> Path:
    """Float MLIR to a bmodel (``model_deploy.py``); nothing is left when it fails.

    Args:
        bench: Where to work; the files must lie in its folder.
        mlir: From :func:`transform`.
        bmodel: What to write.
        chip: The compiler's name of the chip, lower case.
        mode: ``INT8``, ``F32``, ``F16``, ``BF16``, ``W8F16``.
        calibration: Threshold table.
        precisions: Quantize table.
        extra: More options.
    """
    if (bench.folder / bmodel.stem).is_file():
        raise AccelError(
            f"a file {bmodel.stem!r} stands where the compiler makes a directory", code="failed.compiler", stage="build"
        )
    arguments = deploy_arguments(mlir, bmodel, chip, mode, calibration, precisions, extra)
    try:
        done = bench.python("model_deploy", arguments, f"compiling for {chip}")
        if not bmodel.exists():
            raise explain(done, f"compiling for {chip}")
    except BaseException:
        # A deploy that fails in its last check has already written the file.
        bmodel.unlink(missing_ok=True)
        raise
    return bmodel


def deploy_arguments(
    mlir: Path,
    bmodel: Path,
    chip: str,
    mode: str,
    calibration: Path | None,
    precisions: Path | None,
    extra: Sequence[str],
) -> list[str]:
    """What :func:`deploy` calls the tool with."""
    arguments = ["--mlir", mlir.name, "--chip", chip, "--quantize", mode, "--model", bmodel.name]
    if calibration:
        arguments += ["--calibration_table", calibration.name]
    if precisions:
        arguments += ["--quantize_table", precisions.name]
    return [*arguments, "--debug", *extra]


def lowered(bench: Bench) -> Path:
    """The lowered MLIR that the last deploy left (``*_tpu.mlir``).

    Raises:
        AccelError: ``failed.compiler`` when there is none.
    """
    found = sorted(bench.folder.glob("*_tpu.mlir"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise AccelError("the compiler left no lowered graph", code="failed.compiler", stage="build", log=bench.log)
    return found[-1]


METHODS = {
    "auto": "kl",
    "kl": "kl",
    "mse": "mse",
    "minmax": "max",
    "max": "max",
    "percentile": "percentile9999",
    "percentile9999": "percentile9999",
    "aciq": "aciq_gauss",
    "aciq_gauss": "aciq_gauss",
    "aciq_laplace": "aciq_laplace",
}
"""The vendor's calibration methods by our words and its own."""


def calibrate(
    bench: Bench,
    mlir: Path,
    data: Path,
    count: int,
    *,
    chip: str,
    method: str,
    search: str = "",
    extra: Sequence[str] = (),
) -> tuple[Path, Path | None]:
    """The vendor's own calibration (``run_calibration.py``).

    Args:
        bench: Where to work.
        mlir: From :func:`transform`.
        data: Folder of ``.npz`` samples.
        count: How many there are.
        chip: Lower case.
        method: One of ``METHODS``.
        search: ``search_threshold`` or ``search_qtable``.
        extra: More options.

    Returns:
        The threshold table, and the quantize table when one was searched.

    Raises:
        AccelError: ``usage.method`` for an unknown method.
    """
    arguments = calibrate_arguments(mlir, data, count, chip, method, search, extra)
    table = bench.folder / VENDOR_TABLE
    done = bench.python("run_calibration", arguments, "the vendor's calibration")
    if not table.exists():
        raise explain(done, "the vendor's calibration")
    searched = bench.folder / VENDOR_PRECISIONS
    return table, searched if search and searched.exists() else None


VENDOR_TABLE, VENDOR_PRECISIONS = "vendor_cali_table", "vendor_qtable"


def calibrate_arguments(
    mlir: Path, data: Path, count: int, chip: str, method: str, search: str = "", extra: Sequence[str] = ()
) -> list[str]:
    """What :func:`calibrate` calls the tool with.

    Raises:
        AccelError: ``usage.method`` for an unknown method.
    """
    if method not in METHODS:
        raise AccelError(
            f"Sophon's calibration has no method {method!r}",
            code="usage.method",
            hints=[f"It has: {', '.join(dict.fromkeys(METHODS.values()))}."],
        )
    arguments = [mlir.name, "--dataset", data.name, "--input_num", str(count), "--chip", chip, "-o", VENDOR_TABLE]
    arguments += ["--cali_method", METHODS[method]]
    if search:
        arguments += ["--search", search, "--quantize_table", VENDOR_PRECISIONS]
    return [*arguments, *extra]

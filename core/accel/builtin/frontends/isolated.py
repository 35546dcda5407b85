"""Frontends whose framework lives in an environment of its own: a script there exports, we check what it made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accel import progress
from accel.errors import AccelError

if TYPE_CHECKING:
    import onnx

    from accel.model import Model
    from accel.options import ParseOptions
    from accel.toolchain.spec import Toolchain

_SCRIPTS = Path(__file__).with_name("vendor_side")
_TIMEOUT = 3600.0
_YOURSELF = "Export to ONNX in an environment of your own, and give the .onnx file."
_SAYS = "accel: "
"""Begins a line of the script that says what it is doing."""
PARITY = 1e-4
"""Largest difference of an output from the source framework's, relative to its largest magnitude (at least 1)."""
_DECIDES = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "ArgMax", "ArgMin", "TopK", "NonMaxSuppression"}
    | {"Round", "Floor", "Ceil", "Sign"}
)
_SPARE = 1e-3
"""Share of an output's values that may differ where the network decides: two nearly equal ones go either way."""


def export(
    toolchain: Toolchain,
    script: str,
    request: Mapping[str, Any],
    options: ParseOptions,
    *,
    name: str,
    sources: tuple[Path, ...],
) -> Model:
    """Run ``vendor_side/script`` on the toolchain's Python; check the ONNX it leaves and compare its outputs.

    Args:
        toolchain: Must be installed; the driver's own interpreter is never used.
        script: File name in ``vendor_side``.
        request: JSON values for the script; ``shapes`` by input name, -1 in front for a free batch.
        options: What is left to do on the ONNX graph.
        name: Name of the model.
        sources: Files it came from.

    Raises:
        AccelError: ``toolchain.missing``; what the script refused; ``model.parity`` when the ONNX graph computes
            something else than the framework; and those of the ONNX frontend.
    """
    from accel.builtin.frontends.checked import checked_model
    from accel.builtin.frontends.onnx import load
    from accel.toolchain.find import require, toolchains_dir
    from accel.toolchain.process import run

    env = require(toolchain, otherwise=_YOURSELF)
    log = toolchains_dir() / f"{toolchain.name}-export.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    with tempfile.TemporaryDirectory(prefix="accel-export-") as folder:
        work = Path(folder)
        asked = work / "request.json"
        asked.write_text(json.dumps(dict(request)), encoding="utf-8")
        with progress.step(f"exporting from {toolchain.name}") as step:
            step.at(0, note=f"starting {toolchain.name}")

            def on_line(line: str) -> None:
                if line.startswith(_SAYS):
                    step.at(0, note=line.removeprefix(_SAYS).strip())

            argv = [env.python, _SCRIPTS / script, asked]
            done = run(env, argv, cwd=work, log=log, timeout=_TIMEOUT, on_line=on_line, stage="parse")
        reply = _reply(work / "reply.json")
        if done.rc or "error" in reply:
            raise _failed(reply.get("error"), toolchain, log, done.rc)
        with progress.step(f"comparing with {toolchain.name}"):
            proto, _ = load(work / "net.onnx")
            notes, rest = _compare(proto, work, options, reply.get("result", {}))
        notes = (f"exported by {toolchain.name} {env.version}", *notes)
        return checked_model(proto, rest, name=name, sources=sources, notes=notes)


def _reply(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _failed(error: dict[str, Any] | None, toolchain: Toolchain, log: Path, rc: int) -> AccelError:
    if error is None:
        return AccelError(
            f"the export from {toolchain.name} died (exit code {rc})",
            code="model.export",
            cause="\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]),
            log=log,
        )
    return AccelError(
        error["summary"],
        code=error["code"],
        cause=error.get("cause", ""),
        node=error.get("node", ""),
        hints=error.get("hints", ()),
        log=log,
    )


def _compare(
    proto: onnx.ModelProto, work: Path, options: ParseOptions, result: Mapping[str, Any]
) -> tuple[tuple[str, ...], ParseOptions]:
    """Hold the exported graph against the framework's own answers; fix the batch where a free one does not work."""
    from accel.builtin.prepare import verify

    notes: list[str] = []
    worst = None
    single: list[tuple[int, ...]] = []
    fixed: dict[str, tuple[int, ...]] = {}
    spare = _SPARE if any(node.op_type in _DECIDES for node in proto.graph.node) else 0.0
    for batch in (1, 2):
        path = work / f"samples{batch}.npz"
        if not path.is_file():
            free = any(d.dim_param for v in proto.graph.input for d in v.type.tensor_type.shape.dim[:1])
            if batch == 2 and free and result.get("traced"):  # the framework itself could not run two
                fixed = _batch_one(proto)
            continue
        with np.load(path, allow_pickle=False) as arrays:
            feeds = {k[3:]: arrays[k] for k in arrays.files if k.startswith("in:")}
            wanted = [arrays[f"out:{i}"] for i in range(sum(k.startswith("out:") for k in arrays.files))]
        if batch == 1:
            single = [a.shape[:1] for a in wanted]
        elif any(a.shape[:1] != (2 * n[0],) for a, n in zip(wanted, single, strict=True) if n):
            fixed = _batch_one(proto)
            continue
        try:
            got = verify.run(proto, feeds)
            worst = max((_difference(a, b, spare) for a, b in zip(wanted, got, strict=True)), default=0.0)
        except Exception as error:  # whatever ONNX Runtime says about the graph
            worst, cause = float("inf"), str(error).strip().splitlines()[0]
        else:
            cause = f"an output differs by {worst:.1e}"
        if worst <= PARITY:
            continue
        if batch == 2:
            fixed = _batch_one(proto)
        else:
            raise AccelError(
                "the exported network does not compute what its framework computes",
                code="model.parity",
                cause=cause,
                hints=[_YOURSELF],
            )
    if worst is None:
        notes.append(str(result.get("note") or "not compared with its framework: the file holds no example inputs"))
    if fixed:
        notes.append("the batch is fixed at 1: two pictures are not computed as one and one")
    shapes = {**({} if fixed else options.input_shapes), **fixed}
    return tuple(notes), replace(options, input_shapes=shapes)


def _batch_one(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {v.name: (1, *(int(d.dim_value) for d in v.type.tensor_type.shape.dim[1:])) for v in proto.graph.input}


def _difference(want: np.ndarray, got: np.ndarray, spare: float = 0.0) -> float:
    """The largest, relative; without the ``spare`` share of the values that differ most."""
    if want.shape != got.shape:
        return float("inf")
    if not want.size:
        return 0.0
    scale = max(float(np.abs(want.astype(np.float64)).max()), 1.0)
    apart = np.abs(want.astype(np.float64) - got).reshape(-1)
    if not np.isfinite(apart).all():
        return float("inf")
    last = apart.size - 1 - int(apart.size * spare)
    return float(np.partition(apart, last)[last]) / scale

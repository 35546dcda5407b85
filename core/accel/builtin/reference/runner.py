"""Running the reference's graph on ONNX Runtime, with inner tensors on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from accel.builtin.reference.quantize import TensorForm
from accel.errors import AccelError
from accel.model import TensorSpec, io_specs
from accel.runner import Provenance

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.options import RunOptions

UNSAFE_OPTIMIZERS = (
    "ConvMulFusion",
    "ConvAddFusion",
    "ConvBNFusion",
    "MatMulBNFusion",
    "MatMulScaleFusion",
    "MatMulAddFusion",
    "GemmSumFusion",
)
"""Rewrites of ONNX Runtime that would move a scale into integer weights or reorder a rounding."""


def session(model: bytes | str, threads: int = 0) -> Any:
    """An ONNX Runtime session that keeps the arithmetic as it is written.

    Raises:
        AccelError: ``artifact.unreadable`` when ONNX Runtime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(UNSAFE_OPTIMIZERS)
        )
    except Exception as error:  # onnxruntime raises its own kinds, all bare
        raise AccelError(
            "ONNX Runtime cannot open the reference model",
            code="artifact.unreadable",
            cause=str(error).splitlines()[0],
        ) from error


class ReferenceRunner:
    """Runs one graph; see :class:`accel.runner.Runner`.

    Args:
        proto: The graph of :func:`accel.builtin.reference.quantize.quantize`, or any float model.
        tensors: Inner tensors by their name in the float graph, in execution order.
        threads: Host threads; 0: all cores.
        device: What reports call it.
    """

    provenance: Provenance = "simulated"

    def __init__(
        self,
        proto: onnx.ModelProto,
        tensors: Mapping[str, TensorForm],
        *,
        threads: int = 0,
        device: str = "reference (ONNX Runtime)",
    ) -> None:
        self.inputs: tuple[TensorSpec, ...]
        self.outputs: tuple[TensorSpec, ...]
        self.inputs, self.outputs = io_specs(proto)
        self.device = device
        self._proto: onnx.ModelProto | None = proto
        self._tensors = dict(tensors)
        self._threads = threads
        self._session: Any = session(proto.SerializeToString(), threads)
        self._inner: Any = None

    @classmethod
    def open(cls, artifact: Artifact, options: RunOptions) -> ReferenceRunner:
        """Open an artifact of payload ``reference``.

        Raises:
            AccelError: ``usage.batch`` for a batch it was not built for; ``artifact.unreadable``.
        """
        import msgspec

        manifest = artifact.manifest
        batch = manifest.batches[0] if options.batch is None else options.batch
        if batch not in manifest.batches:
            raise AccelError(
                f"{artifact.path} was not built for batch {batch}",
                code="usage.batch",
                hints=[f"It has {', '.join(map(str, manifest.batches))}."],
            )
        models = [e.path for e in manifest.files if e.role == "model"]
        path = artifact.path / models[manifest.batches.index(batch)]
        try:
            proto = onnx.load(path)
            tensors = msgspec.json.decode(artifact.file("data").read_bytes(), type=dict[str, TensorForm])
        except Exception as error:  # protobuf's and msgspec's own kinds among them
            raise AccelError(
                f"the payload of {artifact.path} cannot be read",
                code="artifact.unreadable",
                cause=str(error),
                hints=["Build it again."],
            ) from error
        return cls(proto, tensors, threads=options.threads, device=f"{manifest.target} reference (ONNX Runtime)")

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """See :meth:`accel.runner.Runner.run`. Inner tensors are given in real values."""
        self._check(feeds)
        names = [spec.name for spec in self.outputs]
        if fetch is not None and not fetch:
            return {}  # ONNX Runtime would take an empty list for all outputs
        if fetch is None or all(name in names for name in fetch):
            wanted = names if fetch is None else list(fetch)
            return dict(zip(wanted, self._opened().run(wanted, dict(feeds)), strict=True))
        unknown = [name for name in fetch if name not in self._tensors and name not in names]
        if unknown:
            raise AccelError(
                f"the runner cannot show {unknown[0]!r}",
                code="usage.tensor",
                hints=["`Runner.layers()` lists the inner tensors; those fused into a neighbour do not exist."],
            )
        self._opened()
        if self._inner is None:
            self._inner = self._with_inner()
        forms = [TensorForm(name) if name in names else self._tensors[name] for name in fetch]
        arrays = self._inner.run([form.tensor for form in forms], dict(feeds))
        return {name: real(array, form) for name, array, form in zip(fetch, arrays, forms, strict=True)}

    def layers(self) -> tuple[str, ...]:
        """Inner tensors by their names in the float model, in execution order."""
        return tuple(self._tensors)

    def form(self, name: str) -> TensorForm:
        """How inner tensor ``name`` is held (its scale, zero point and width)."""
        return self._tensors[name]

    def nonfinite(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """How many values are infinite or NaN, by tensor, in execution order; tensors without any are left out.

        The first is where a half-precision overflow began.
        """
        names = list(dict.fromkeys([*self._tensors, *(spec.name for spec in self.outputs)]))
        found = {name: int(np.count_nonzero(~np.isfinite(v))) for name, v in self.run(feeds, names).items()}
        return {name: count for name, count in found.items() if count}

    def close(self) -> None:
        self._session = self._inner = self._proto = None

    def __enter__(self) -> ReferenceRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Any:
        if self._session is None:
            raise AccelError("the runner is closed", code="usage.closed")
        return self._session

    def _with_inner(self) -> Any:
        # A session of its own: extra outputs keep tensors alive and block fusions, which the normal run must not pay.
        assert self._proto is not None
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        held = {o.name for o in proto.graph.output}
        for name in dict.fromkeys(form.tensor for form in self._tensors.values()):
            if name not in held:
                proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        return session(proto.SerializeToString(), self._threads)

    def _check(self, feeds: Mapping[str, np.ndarray]) -> None:
        want = {spec.name: spec for spec in self.inputs}
        for name in feeds:
            if name not in want:
                raise _bad_input(f"there is no input {name!r}", f"Inputs: {', '.join(want)}")
        for name, spec in want.items():
            if name not in feeds:
                raise _bad_input(f"input {name!r} is not fed", f"It is {spec}")
            array = feeds[name]
            if array.dtype.name != spec.dtype:
                raise _bad_input(f"input {name!r} is fed {array.dtype.name}", f"It is {spec}")
            fits = len(array.shape) == len(spec.shape) and all(
                isinstance(d, str) or d == s for d, s in zip(spec.shape, array.shape, strict=False)
            )
            if not fits:
                raise _bad_input(f"input {name!r} is fed shape {tuple(array.shape)}", f"It is {spec}")


def real(array: np.ndarray, form: TensorForm) -> np.ndarray:
    """Real values of a fetched tensor."""
    if form.inverse is None:
        return array
    return np.asarray(array / np.float32(form.inverse), np.float32)


def _bad_input(summary: str, hint: str) -> AccelError:
    return AccelError(summary, code="usage.input", stage="run", hints=[hint])

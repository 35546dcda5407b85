"""The float model as a runner: plain ONNX Runtime, with every inner tensor open to view.

It is the reference side of every comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import AccelError
from accel.model import TensorSpec
from accel.runner import Provenance

if TYPE_CHECKING:
    from accel.model import Model


class FloatRunner:
    """A :class:`~accel.runner.Runner` over ``model`` as it is.

    Args:
        model: What to run.
        threads: Threads of ONNX Runtime; 0: all cores.

    Raises:
        AccelError: ``model.unrunnable`` when ONNX Runtime refuses the graph.
    """

    provenance: Provenance = "measured"
    device = "float (ONNX Runtime)"

    def __init__(self, model: Model, *, threads: int = 0) -> None:
        self.model = model
        self.inputs = model.inputs
        self.outputs = model.outputs
        self._threads = threads
        self._names = tuple(spec.name for spec in model.outputs)
        self._inner = inner_tensors(model)
        self._plain = _session(model.proto.SerializeToString(), threads)
        self._open: dict[tuple[str, ...], Any] = {}

    def run(self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Outputs, or the tensors named by ``fetch``; half floats are widened to float32.

        Raises:
            AccelError: ``usage.input`` for feeds that do not fit, ``usage.output`` for an unknown tensor.
        """
        checked = check_feeds(self.inputs, feeds)
        wanted = tuple(dict.fromkeys(fetch)) if fetch is not None else self._names
        session = self._session_for(wanted)
        results = session.run(list(wanted), checked)
        return {name: _widened(value) for name, value in zip(wanted, results, strict=True)}

    def layers(self) -> tuple[str, ...]:
        """Every tensor a node writes and that is no output, in graph order."""
        return self._inner

    def close(self) -> None:
        """Free the sessions."""
        self._plain = None
        self._open = {}

    def __enter__(self) -> FloatRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, wanted: tuple[str, ...]) -> Any:
        if self._plain is None:
            raise AccelError("the runner is closed", code="usage.closed")
        inner = tuple(name for name in wanted if name not in self._names)
        if not inner:
            return self._plain
        if unknown := set(inner) - set(self._inner):
            raise AccelError(
                f"the model has no inner tensor {min(unknown)!r}",
                code="usage.output",
                hints=["The names are those of the ONNX graph."],
            )
        if inner not in self._open:
            # One session at a time: a second copy of the weights is enough.
            self._open = {inner: _session(with_outputs(self.model, inner), self._threads)}
        return self._open[inner]


def inner_tensors(model: Model) -> tuple[str, ...]:
    """Names of the tensors that the nodes of the main graph write, without constants and graph outputs.

    Sequences, maps and strings are left out.
    """
    import onnx

    outputs = {spec.name for spec in model.outputs}
    outputs |= {
        value.name
        for value in model.proto.graph.value_info
        if value.type.WhichOneof("value") not in (None, "tensor_type")
        or value.type.tensor_type.elem_type == onnx.TensorProto.STRING
    }
    return tuple(
        name
        for node in model.proto.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if name and name not in outputs
    )


def with_outputs(model: Model, names: Sequence[str]) -> bytes:
    """The serialised graph with inner tensors as further outputs."""
    import onnx

    known = {value.name: value for value in model.proto.graph.value_info}
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    return bytes(proto.SerializeToString())


def check_feeds(inputs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Feeds in the inputs' dtypes.

    Raises:
        AccelError: ``usage.input`` for a missing or unknown name, a wrong shape or a dtype that would lose
            information.
    """
    known = {spec.name for spec in inputs}
    for name in feeds:
        if name not in known:
            raise _misfit(f"the network has no input {name!r}", f"its inputs are: {', '.join(sorted(known))}")
    checked = {}
    for spec in inputs:
        if spec.name not in feeds:
            raise _misfit(f"the input {spec.name!r} is not given", f"given are: {', '.join(feeds) or 'none'}")
        array = np.asarray(feeds[spec.name])
        fits = array.ndim == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise _misfit(f"the input {spec.name!r} has the wrong shape", f"given {list(array.shape)}, it is {spec}")
        if array.dtype != spec.dtype and not np.can_cast(array.dtype, np.dtype(spec.dtype), "same_kind"):
            raise _misfit(f"the input {spec.name!r} has the wrong dtype", f"given {array.dtype}, it is {spec}")
        checked[spec.name] = np.ascontiguousarray(array, dtype=spec.dtype)
    return checked


def _misfit(summary: str, cause: str) -> AccelError:
    return AccelError(summary, code="usage.input", stage="run", cause=cause)


def _session(serialized: bytes, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise AccelError(
            "ONNX Runtime cannot run the float model", code="model.unrunnable", stage="run", cause=str(error)
        ) from error


def _widened(value: Any) -> Any:
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value

"""A strict stand-in for ``magicmind.python.runtime``: the documented names and nothing else, with real numbers.

Anything the public sources do not show (a name, an argument, an order of calls, a configuration key or value) raises
:class:`Undocumented`. A built model computes with the NumPy model of the arithmetic. Controlled by variables:

``FAKE_MM_TRACE``  file that receives every call, a JSON list a line
``FAKE_MM_CARDS``  cards in this machine (default 1)
``FAKE_MM_FAIL``   a call that reports failure
"""

from __future__ import annotations

import enum
import io
import json
import os
import zipfile
from typing import Any, ClassVar

import mlu_numpy
import numpy as np
import onnx


class Undocumented(Exception):  # noqa: N818
    """The caller used something no public source shows."""


def undocumented(what: str) -> Any:
    raise Undocumented(what)


def record(*call: Any) -> None:
    path = os.environ.get("FAKE_MM_TRACE")
    if path:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(call) + "\n")


class Code(enum.Enum):
    OK = 0
    OUT_OF_RANGE = 11


class Status:
    __slots__ = ("_code", "_looked", "_text")

    def __init__(self, code: Code, text: str = "") -> None:
        self._code, self._text, self._looked = code, text, False

    @staticmethod
    def OK() -> Status:  # noqa: N802
        return Status(Code.OK)

    @staticmethod
    def failed(text: str) -> Status:
        return Status(Code.OUT_OF_RANGE, text)

    def ok(self) -> bool:
        self._looked = True
        return self._code is Code.OK

    def __str__(self) -> str:
        return self._text

    def __del__(self) -> None:
        if not self._looked:
            record("UNCHECKED STATUS")


def status(call: str) -> Status:
    return Status.failed(f"{call} was told to fail") if os.environ.get("FAKE_MM_FAIL") == call else Status.OK()


class ModelKind(enum.Enum):
    kOnnx = 1  # noqa: N815
    kPytorch = 2  # noqa: N815
    kTensorflow = 3  # noqa: N815
    kCaffe = 4  # noqa: N815


class DataType(enum.Enum):
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BOOL = "bool"


class QuantizationAlgorithm(enum.Enum):
    LINEAR_ALGORITHM = 1
    EQNM_ALGORITHM = 2


class Dims:
    __slots__ = ("_dims",)

    def __init__(self, dims: list[int]) -> None:
        if not isinstance(dims, (list, tuple)) or not all(isinstance(d, int) for d in dims):
            undocumented(f"Dims({dims!r})")
        self._dims = list(dims)

    def GetDims(self) -> list[int]:  # noqa: N802
        return list(self._dims)


class _Tensor:
    """An input of a network."""

    __slots__ = ("_dims",)

    def __init__(self, dims: list[int]) -> None:
        self._dims = dims

    def set_dimension(self, dims: Dims) -> Status:
        if len(dims.GetDims()) != len(self._dims):
            return Status.failed(f"rank {len(dims.GetDims())} for an input of rank {len(self._dims)}")
        self._dims[:] = dims.GetDims()
        record("set_dimension", dims.GetDims())
        return status("set_dimension")


class Network:
    def __init__(self) -> None:
        self._proto: onnx.ModelProto | None = None
        self._inputs: list[_Tensor] = []
        self._ranges: dict[str, tuple[float, float]] = {}

    def fill(self, kind: ModelKind, path: str) -> None:
        # The other kinds' files of the tests hold ONNX too: what matters is which parser gets which arguments.
        self._proto = onnx.load(path)
        held = {i.name for i in self._proto.graph.initializer}
        inputs = [i for i in self._proto.graph.input if i.name not in held]
        self._inputs = [_Tensor([d.dim_value for d in i.type.tensor_type.shape.dim]) for i in inputs]

    def get_input_count(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> _Tensor:
        return self._inputs[index]


def _numbers(v: Any) -> bool:
    return isinstance(v, list) and all(isinstance(x, (int, float)) for x in v)


def _is(*kinds: type) -> Any:
    return lambda v: isinstance(v, kinds) and not (kinds == (int,) and isinstance(v, bool))


def _one(*words: str) -> Any:
    return lambda v: v in words


def _by_index(check: Any) -> Any:
    return lambda v: isinstance(v, dict) and all(k.isdigit() and check(x) for k, x in v.items())


def _keys(**checks: Any) -> Any:
    return lambda v: isinstance(v, dict) and v.keys() <= checks.keys() and all(checks[k](x) for k, x in v.items())


_LAYOUTS = ("NCHW", "NHWC", "NCT", "NTC", "NCDHW", "NDHWC")
_ARCHS = ("mtp_220", "mtp_270", "mtp_290", "mtp_372", "mtp_592", "tp_322", "mtp_322", "mtp_322.10")
_KNOWN = {
    "archs": lambda v: (
        isinstance(v, list)
        and all(
            a in _ARCHS if isinstance(a, str) else set(a) <= set(_ARCHS) and all(map(_numbers, a.values())) for a in v
        )
    ),
    "graph_shape_mutable": _is(bool),
    "dim_range": _by_index(_keys(min=_numbers, max=_numbers)),
    "precision_config": _keys(
        precision_mode=_one(
            "force_float32",
            "force_float16",
            "qint8_mixed_float16",
            "qint8_mixed_float32",
            "qint16_mixed_float16",
            "qint16_mixed_float32",
        ),
        activation_quant_algo=_one("symmetric", "asymmetric"),
        weight_quant_granularity=_one("per_tensor", "per_axis"),
    ),
    "insert_bn_before_firstnode": _by_index(_keys(mean=_numbers, var=_numbers)),
    "convert_input_layout": _by_index(_keys(src=_one(*_LAYOUTS), dst=_one(*_LAYOUTS))),
    "convert_output_layout": _by_index(_keys(src=_one(*_LAYOUTS), dst=_one(*_LAYOUTS))),
    "opt_config": _keys(type64to32_conversion=_is(bool), conv_scale_fold=_is(bool)),
    "computation_preference": _one("auto", "fast", "high_precision"),
    "cross_compile_toolchain_path": _is(str),
    "custom_ranges": lambda v: isinstance(v, dict) and all(_keys(max=_numbers, min=_numbers)(r) for r in v.values()),
    "custom_nodes": _is(dict),
    "debug_config": _is(dict),
}


class BuilderConfig:
    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def parse_from_string(self, text: str) -> Status:
        told = json.loads(text)
        for key, value in told.items():
            if key not in _KNOWN:
                undocumented(f"configuration key {key!r}")
            if not _KNOWN[key](value):
                undocumented(f"configuration {key} = {value!r}")
        for key, value in told.items():
            merges = isinstance(value, dict) and isinstance(self._told.get(key), dict)
            self._told[key] = {**self._told[key], **value} if merges else value
        record("parse_from_string", told)
        return status("parse_from_string")

    def told(self) -> dict[str, Any]:
        return self._told


class CalibDataInterface:
    """What samples are derived from."""

    def __init__(self) -> None:
        record("CalibDataInterface")


class RemoteConfig:
    __slots__ = ("address",)


class Calibrator:
    __slots__ = ("_algorithm", "_data", "_remote")

    def __init__(self, data: list[CalibDataInterface]) -> None:
        if not data or not all(isinstance(d, CalibDataInterface) for d in data):
            undocumented("Calibrator takes a list of CalibDataInterface, one an input")
        self._data, self._algorithm, self._remote = data, None, None

    def set_quantization_algorithm(self, algorithm: QuantizationAlgorithm) -> Status:
        if not isinstance(algorithm, QuantizationAlgorithm):
            undocumented(f"algorithm {algorithm!r}")
        self._algorithm = algorithm
        record("set_quantization_algorithm", algorithm.name)
        return Status.OK()

    def set_remote(self, remote: RemoteConfig) -> Status:
        if not isinstance(remote, RemoteConfig) or ":" not in remote.address:
            undocumented("set_remote wants a RemoteConfig whose address is host:port")
        self._remote = remote.address
        record("set_remote", remote.address)
        return Status.OK()

    def calibrate(self, network: Network, config: BuilderConfig) -> Status:
        told = config.told()
        if self._algorithm is None:
            undocumented("calibrate before set_quantization_algorithm")
        if self._remote is None and not Device.active_ones:
            undocumented("calibrate on this machine before a card is active")
        asymmetric = told["precision_config"].get("activation_quant_algo") == "asymmetric"
        if asymmetric and self._algorithm is QuantizationAlgorithm.EQNM_ALGORITHM:
            undocumented("EQNM with asymmetric codes")
        if len(self._data) != network.get_input_count():
            undocumented("one CalibDataInterface an input")
        assert network._proto is not None
        record("calibrate", self._remote or "local")
        float_mode = mlu_numpy.Mode(0, False)
        ranges: dict[str, tuple[float, float]] = {}
        for source in self._data:
            source.reset().ok()
        names = [i.name for i in network._proto.graph.input]
        count = 0
        while all(source.next().ok() for source in self._data):
            count += 1
            feeds = {}
            for name, source, tensor in zip(names, self._data, network._inputs, strict=False):
                sample = source.get_sample()
                if list(sample.shape) != tensor._dims or source.get_shape().GetDims() != tensor._dims:
                    undocumented(f"a sample of {sample.shape} for an input of {tensor._dims}")
                if source.get_data_type().value != sample.dtype.name:
                    undocumented("get_data_type is not the sample's")
                feeds[name] = sample
            for name, value in mlu_numpy.run_graph(network._proto, feeds, float_mode, {}).items():
                if value.dtype == np.float32 and value.size:
                    low, high = ranges.get(name, (0.0, 0.0))
                    # Four digits: BLAS adds floats in another order in another process.
                    seen = [float(f"{v:.4g}") for v in (value.min(), value.max())]
                    ranges[name] = (min(low, seen[0]), max(high, seen[1]))
        record("samples", count)
        network._ranges = ranges
        return status("calibrate") if count else Status.failed("no samples")


class Builder:
    def build_model(self, name: str, network: Network, config: BuilderConfig) -> Model | None:
        told = config.told()
        record("build_model", name)
        assert network._proto is not None
        for key in ("archs", "precision_config"):
            if key not in told:
                undocumented(f"build without {key}")
        ranges = {n: (r["min"][0], r["max"][0]) for n, r in told.get("custom_ranges", {}).items()} or network._ranges
        mode = told["precision_config"]["precision_mode"]
        if mode.startswith("qint"):
            held = {i.name for i in network._proto.graph.initializer}
            for node in network._proto.graph.node:
                if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                    missing = [i for i in node.input[:2] if i not in held and i not in ranges and "" not in ranges]
                    if missing:
                        print(f"E: tensor {missing[0]} has no range")
                        return None
        if status("build_model").ok() is False:
            return None
        return Model._of(network._proto, told, [list(t._dims) for t in network._inputs], ranges)


class Model:
    class EngineConfig:
        __slots__ = ("device_type",)

    def __init__(self) -> None:
        self._proto: onnx.ModelProto | None = None

    @staticmethod
    def _of(proto: onnx.ModelProto, told: dict[str, Any], dims: list[list[int]], ranges: Any) -> Model:
        model = Model()
        model._proto, model._told, model._dims, model._ranges = proto, told, dims, ranges
        return model

    def serialize_to_file(self, path: str) -> Status:
        record("serialize_to_file", os.path.basename(path))  # noqa: PTH119
        held = {"told": self._told, "dims": self._dims, "ranges": self._ranges}
        with zipfile.ZipFile(path, "w") as file:
            for name, data in (("held.json", json.dumps(held)), ("net.onnx", self._proto.SerializeToString())):
                file.writestr(zipfile.ZipInfo(name), data)
        return status("serialize_to_file")

    def deserialize_from_file(self, path: str) -> Status:
        record("deserialize_from_file")
        try:
            with zipfile.ZipFile(path) as file:
                held = json.loads(file.read("held.json"))
                self._proto = onnx.load(io.BytesIO(file.read("net.onnx")))
        except (OSError, zipfile.BadZipFile) as error:
            return Status.failed(str(error))
        self._told, self._dims = held["told"], held["dims"]
        self._ranges = {k: tuple(v) for k, v in held["ranges"].items()}
        return Status.OK()

    def create_i_engine(self, config: EngineConfig) -> Engine | None:
        if not isinstance(config, Model.EngineConfig) or config.device_type != "MLU":
            undocumented("create_i_engine wants an EngineConfig whose device_type is MLU")
        if not Device.active_ones or not System.depth:
            undocumented("create_i_engine before System and an active Device")
        record("create_i_engine")
        return Engine(self) if status("create_i_engine").ok() else None

    def get_input_names(self) -> list[str]:
        held = {i.name for i in self._proto.graph.initializer}
        return [i.name for i in self._proto.graph.input if i.name not in held]

    def get_output_names(self) -> list[str]:
        return [o.name for o in self._proto.graph.output]

    def get_input_data_types(self) -> list[DataType]:
        folded = self._told.get("insert_bn_before_firstnode", {})
        types = []
        for index, value in enumerate(self._proto.graph.input[: len(self._dims)]):
            plain = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
            types.append(DataType.UINT8 if str(index) in folded else DataType(plain))
        return types

    def get_output_data_types(self) -> list[DataType]:
        return [
            DataType(onnx.helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type).name)
            for o in self._proto.graph.output
        ]

    def get_input_dimensions(self) -> list[Dims]:
        return [Dims([-1, *d[1:]] if self._told.get("graph_shape_mutable") else d) for d in self._dims]

    def get_output_dimensions(self) -> list[Dims]:
        return [Dims([d.dim_value for d in o.type.tensor_type.shape.dim]) for o in self._proto.graph.output]

    def compute(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        told, feeds = self._told, {}
        folded = told.get("insert_bn_before_firstnode", {})
        for index, (name, array) in enumerate(zip(self.get_input_names(), arrays, strict=True)):
            change = told.get("convert_input_layout", {}).get(str(index))
            norm = folded.get(str(index))
            if norm:
                channels = (change or {"dst": "NCHW"})["dst"].index("C")
                shape = [-1 if a == channels else 1 for a in range(array.ndim)]
                mean, var = (np.asarray(norm[k], np.float32).reshape(shape) for k in ("mean", "var"))
                array = ((array.astype(np.float32) - mean) / np.sqrt(var)).astype(np.float32)
            if change:
                array = array.transpose([change["dst"].index(c) for c in change["src"]])
            feeds[name] = array
        precision = told["precision_config"]
        mode = mlu_numpy.Mode.of(
            precision["precision_mode"],
            asymmetric=precision.get("activation_quant_algo") == "asymmetric",
            per_axis=precision.get("weight_quant_granularity") == "per_axis",
        )
        values = mlu_numpy.run_graph(self._proto, feeds, mode, self._ranges)
        outputs = []
        for index, name in enumerate(self.get_output_names()):
            change = told.get("convert_output_layout", {}).get(str(index))
            value = values[name]
            outputs.append(value.transpose([change["src"].index(c) for c in change["dst"]]) if change else value)
        return outputs


class System:
    depth = 0

    def __enter__(self) -> System:
        System.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        System.depth -= 1

    def device_count(self) -> int:
        return int(os.environ.get("FAKE_MM_CARDS", "1"))


class Device:
    __slots__ = ("id",)
    active_ones: ClassVar[set[int]] = set()

    def active(self) -> Status:
        if not System.depth:
            undocumented("Device.active outside System")
        if self.id >= int(os.environ.get("FAKE_MM_CARDS", "1")):
            return Status.failed(f"no card {self.id}")
        Device.active_ones.add(self.id)
        record("active", self.id)
        return Status.OK()

    def create_queue(self) -> Queue:
        if self.id not in Device.active_ones:
            undocumented("create_queue of a card that is not active")
        return Queue()


class Queue:
    def __init__(self) -> None:
        self._pending = 0

    def sync(self) -> Status:
        self._pending = 0
        return status("sync")


class Engine:
    def __init__(self, model: Model) -> None:
        self._model = model

    def create_i_context(self) -> Context:
        return Context(self._model)


class _Value:
    """A runtime tensor."""

    def __init__(self, want: DataType | None = None) -> None:
        self._want, self._array, self._device, self._queue = want, None, None, None

    def from_numpy(self, array: np.ndarray) -> Status:
        if not array.flags.c_contiguous or (self._want and array.dtype.name != self._want.value):
            undocumented(f"from_numpy of {array.dtype} where {self._want} is wanted, or not contiguous")
        self._array = array
        return Status.OK()

    def to(self, device: Device) -> Status:
        if not isinstance(device, Device):
            undocumented(f"to({device!r})")
        self._device = device
        return Status.OK()

    def asnumpy(self) -> np.ndarray:
        if self._queue is None or self._queue._pending:
            undocumented("asnumpy before the queue is synchronised")
        return self._array


class Context:
    def __init__(self, model: Model) -> None:
        self._model = model

    def create_inputs(self) -> list[_Value]:
        record("create_inputs")
        return [_Value(t) for t in self._model.get_input_data_types()]

    def enqueue(self, inputs: list[_Value], outputs: list[_Value], queue: Queue) -> Status:
        if outputs:
            undocumented("enqueue fills an empty list of outputs")
        told, dims = self._model._told, self._model._dims
        for index, (value, built) in enumerate(zip(inputs, dims, strict=True)):
            if value._array is None or value._device is None:
                undocumented("enqueue before every input is set and on the card")
            change = told.get("convert_input_layout", {}).get(str(index))
            want = [built[change["src"].index(c)] for c in change["dst"]] if change else built
            have, span = list(value._array.shape), told.get("dim_range", {}).get(str(index))
            if span and told.get("graph_shape_mutable"):
                if not all(a <= b <= c for a, b, c in zip(span["min"], have, span["max"], strict=True)):
                    return Status.failed(f"input {index} of {have} is outside dim_range")
            elif have != want:
                return Status.failed(f"input {index} of {have}, built for {want}")
        record("enqueue")
        for array in self._model.compute([v._array for v in inputs]):
            value = _Value()
            value._array, value._queue = array, queue
            outputs.append(value)
        queue._pending += 1
        return status("enqueue")

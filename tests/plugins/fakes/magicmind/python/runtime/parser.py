"""Parser of the stand-in: knows the keys and argument counts of the public samples."""

from __future__ import annotations

import os
from typing import Any

from magicmind.python.runtime import DataType, ModelKind, Network, Status, record, undocumented

_FILES = {ModelKind.kOnnx: 1, ModelKind.kPytorch: 1, ModelKind.kTensorflow: 1, ModelKind.kCaffe: 2}
_KEYS = {
    ModelKind.kPytorch: {"pytorch-input-dtypes"},
    ModelKind.kTensorflow: {"tf-model-type", "tf-graphdef-inputs", "tf-graphdef-outputs"},
}


class Parser:
    __slots__ = ("_kind", "_params")

    def __init__(self, kind: ModelKind) -> None:
        if not isinstance(kind, ModelKind):
            undocumented(f"Parser({kind!r})")
        self._kind = kind
        self._params: dict[str, Any] = {}
        record("Parser", kind.name)

    def set_model_param(self, key: str, value: Any) -> Status:
        if key not in _KEYS.get(self._kind, ()):
            undocumented(f"model param {key!r} of {self._kind.name}")
        good = {
            "pytorch-input-dtypes": lambda v: isinstance(v, list) and all(isinstance(d, DataType) for d in v),
            "tf-model-type": lambda v: v == "tf-graphdef-file",
            "tf-graphdef-inputs": lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v),
            "tf-graphdef-outputs": lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v),
        }
        if not good[key](value):
            undocumented(f"{key} = {value!r}")
        self._params[key] = value
        record("set_model_param", key, str(value))
        return Status.OK()

    def parse(self, network: Network, *files: str) -> Status:
        if not isinstance(network, Network) or len(files) != _FILES[self._kind]:
            undocumented(f"parse of {self._kind.name} with {len(files)} files")
        if self._params.keys() != _KEYS.get(self._kind, set()):
            undocumented(f"parse before {_KEYS[self._kind] - self._params.keys()} are set")
        record("parse", *(os.path.basename(f) for f in files))  # noqa: PTH119
        for file in files:
            if not os.path.isfile(file):  # noqa: PTH113
                return Status.failed(f"cannot open {file}")
        if self._kind is ModelKind.kCaffe and not files[0].endswith(".caffemodel"):
            undocumented("Caffe's weights come first, then the network")
        network.fill(self._kind, files[0])
        return Status.OK()

"""Stands in for torch inside the Horizon toolchain.

hmct imports torch wherever it starts but computes with it only when it is given a torch model, which
`accel` never does. This file is copied into the toolchain's environment as ``torch.py``; it provides the
names that are looked up while the compiler's modules load, and a clear error for anything else.
Runs on the toolchain's Python (3.10), standard library only.
"""

import sys
import types

__version__ = "0.0+accel.stand.in"


class _MissingError(RuntimeError):
    def __init__(self, name):
        super().__init__(
            "torch." + name + " was used, but this toolchain holds only a stand-in for torch: "
            "give the compiler an ONNX or Caffe model"
        )


class dtype:  # noqa: N801 - torch's own name
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "torch." + self.name


_DTYPES = """
float16 bfloat16 float32 float64 uint8 int8 int16 int32 int64 bool complex64 complex128
qint8 quint8 qint32 half float double short int long
"""
for _name in _DTYPES.split():
    globals()[_name] = dtype(_name)


class Tensor:
    """Only for isinstance(); nothing is ever one."""


class Size(tuple):
    pass


class device:  # noqa: N801 - torch's own name
    def __init__(self, name="cpu"):
        self.type = name


def _module(name, **contents):
    module = types.ModuleType(name)
    module.__dict__.update(contents)

    def missing(attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise _MissingError(name.replace("torch.", "", 1) + "." + attribute)

    module.__getattr__ = missing
    sys.modules[name] = module
    return module


def _decorator(*_arguments, **_options):
    return lambda function: function


class _Module:
    """torch.nn.Module, to be derived from and never made."""

    def __init__(self, *_arguments, **_options):
        raise _MissingError("nn.Module")


class _Function:
    """torch.autograd.Function, to be derived from and never applied."""


def from_numpy(_array):
    raise _MissingError("from_numpy")


def tensor(*_arguments, **_options):
    raise _MissingError("tensor")


nn = _module("torch.nn", Module=_Module, Parameter=Tensor)
autograd = _module("torch.autograd", Function=_Function)
cuda = _module("torch.cuda", is_available=lambda: False, device_count=lambda: 0)
jit = _module("torch.jit", ScriptModule=_Module, script=_decorator)
symbolic_helper = _module("torch.onnx.symbolic_helper", parse_args=_decorator)
symbolic_opset9 = _module("torch.onnx.symbolic_opset9")
onnx = _module(
    "torch.onnx",
    register_custom_op_symbolic=lambda *_a, **_k: None,
    symbolic_helper=symbolic_helper,
    symbolic_opset9=symbolic_opset9,
)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise _MissingError(name)

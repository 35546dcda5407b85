"""Stands in for torch in the compiler's Caffe reader, which permutes the weights of a Deconvolution with it."""

import sys
import types

import numpy as np


class _Array(np.ndarray):
    def permute(self, order):
        return self.transpose(order)


def tensor(values):
    return np.asarray(values).view(_Array)


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *args, **kwargs):
        # As a decorator it must give back what it decorates.
        if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType):
            return args[0]
        return cls


class Anything(metaclass=_Anything):
    pass


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything


__version__ = "0.0.0"
__path__ = []
for _name in ("nn", "nn.functional", "utils", "utils.data"):
    _module = types.ModuleType(f"torch.{_name}")
    _module.__getattr__ = __getattr__
    _module.__path__ = []
    sys.modules[_module.__name__] = _module

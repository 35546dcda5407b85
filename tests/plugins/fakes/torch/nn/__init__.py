"""Modules."""

from __future__ import annotations

from typing import Any

import mlu_numpy
import numpy as np

from torch.nn import functional  # noqa: F401


class Parameter:
    def __init__(self) -> None:
        self.data: Any = None


class Module:
    device = "cpu"

    def __init__(self) -> None:
        self.children: dict[str, Module] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self.children[name] = value
        object.__setattr__(self, name, value)

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)  # type: ignore[attr-defined]

    def eval(self) -> Module:
        return self

    def float(self) -> Module:
        return self

    def to(self, device: Any) -> Module:
        self.device = device.kind
        return self

    def state_dict(self) -> dict[str, Any]:
        return {f"{n}.{k}": v for n, c in self.children.items() for k, v in c.own_state().items()}  # type: ignore[attr-defined]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, child in self.children.items():
            child.set_state({k.split(".")[-1]: v for k, v in state.items() if k.rsplit(".", 1)[0] == name})  # type: ignore[attr-defined]


class Fixed(Module):
    """What the quantiser knows: reads fixed-point inputs once it has its state."""

    axis = 0

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.weight, self.bias = Parameter(), Parameter() if bias else None
        self.observing: dict[str, Any] | None = None
        self.absmax, self.bits, self.per_channel = 0.0, 0, False

    def own_state(self) -> dict[str, Any]:
        assert self.observing is not None
        return {"absmax": self.absmax, "bits": self.observing["bits"], "per_channel": self.observing["per_channel"]}

    def set_state(self, state: dict[str, Any]) -> None:
        self.absmax, self.bits = float(state["absmax"]), int(state["bits"])
        self.per_channel = bool(state["per_channel"])

    def product(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        w = self.weight.data.array
        if self.observing is not None:
            self.absmax = max(self.absmax, float(np.abs(x.array).max()))
        if not self.bits:
            value = self.product(x.array, w)
        else:
            p = mlu_numpy.symmetric(self.absmax, self.bits)
            axis = self.axis if self.per_channel else None
            weights = mlu_numpy.weight_parameters(w, self.bits, axis)
            acc = self.product(mlu_numpy.quantize(x.array, p), mlu_numpy.quantize_weight(w, weights, axis))
            steps = np.array([p.inverse * q.inverse for q in weights], np.float32)
            value = mlu_numpy.real(acc, steps.reshape((-1,) + (1,) * (acc.ndim - 2)) if len(steps) > 1 else steps)
        if self.bias is not None:
            held = x.like(self.bias.data.array).array
            value = value + held.reshape((-1,) + (1,) * (value.ndim - 2))
        return x.like(value)


class Conv2d(Fixed):
    def __init__(self, inputs: int, outputs: int, kernel_size, stride, padding, dilation, groups, bias) -> None:
        super().__init__(bias)
        self.attrs = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}

    def product(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return mlu_numpy.convolve(x, w, self.attrs)


class ConvTranspose2d(Fixed):
    axis = 1

    def __init__(
        self, inputs: int, outputs: int, kernel_size, stride, padding, dilation, groups, bias, output_padding
    ) -> None:
        super().__init__(bias)
        self.attrs = {
            "strides": stride,
            "pads": [*padding, *padding],
            "dilations": dilation,
            "group": groups,
            "output_padding": output_padding,
        }

    def product(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return mlu_numpy.deconvolve(x, w, self.attrs)


class Linear(Fixed):
    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(bias)

    def product(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.matmul(x, w.T)

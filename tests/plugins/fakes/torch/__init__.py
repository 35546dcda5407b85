"""The little of PyTorch that a quantised network for Cambricon PyTorch uses, in NumPy. Whatever is not here fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from torch import jit, nn  # noqa: F401  (torch.jit, torch.nn)


class Device:
    def __init__(self, kind: str) -> None:
        self.kind = kind


class Tensor:
    """An array on a device; half tensors are rounded after every operation."""

    def __init__(self, array: np.ndarray, device: str = "cpu", half: bool = False) -> None:
        with np.errstate(over="ignore"):
            self.array = np.asarray(array, np.float32)
            if half:
                self.array = self.array.astype(np.float16).astype(np.float32)
        self.device, self.is_half = device, half

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def like(self, array: np.ndarray) -> Tensor:
        return Tensor(array, self.device, self.is_half)

    def half(self) -> Tensor:
        return Tensor(self.array, self.device, True)

    def to(self, device: Device) -> Tensor:
        return Tensor(self.array, device.kind, self.is_half)

    def permute(self, *order: int) -> Tensor:
        return self.like(self.array.transpose(order))

    def __add__(self, other: Tensor) -> Tensor:
        return self.like(self.array + other.array)

    def __mul__(self, other: Tensor) -> Tensor:
        return self.like(self.array * other.array)


def from_numpy(array: np.ndarray) -> Tensor:
    return Tensor(array)


def randn(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(5).normal(0, 1, shape))


def sigmoid(x: Tensor) -> Tensor:
    return x.like(1 / (1 + np.exp(-x.array)))


def flatten(x: Tensor, axis: int) -> Tensor:
    return x.like(x.array.reshape(*x.shape[:axis], -1))


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.like(x.array.reshape(shape))


def cat(parts: tuple[Tensor, ...], dim: int) -> Tensor:
    return parts[0].like(np.concatenate([p.array for p in parts], axis=dim))


class no_grad:  # noqa: N801
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def save(state: dict[str, Any], path: str) -> None:
    with open(path, "wb") as file:  # noqa: PTH123
        np.savez(file, **state)


def load(path: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}

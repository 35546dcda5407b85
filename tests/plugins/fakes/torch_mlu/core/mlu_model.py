"""The device side of the stand-in: offline models are saved only in the documented order."""

from __future__ import annotations

from typing import Any

import numpy as np
from magicmind.python.runtime import record, undocumented

_told: dict[str, Any] = {}
_MOST = {"MLU220": 4, "MLU270": 16}


def set_device(number: int) -> None:
    if number != -1:
        undocumented("compiling without a card is set_device(-1)")
    _told["device"] = number


def set_core_version(version: str) -> None:
    if version not in _MOST:
        undocumented(f"core version {version!r}")
    _told["version"] = version
    record("set_core_version", version)


def set_core_number(number: int) -> None:
    if number not in (1, 4, 16) or number > _MOST[_told["version"]]:
        undocumented(f"{number} cores of {_told['version']}")
    _told["number"] = number
    record("set_core_number", number)


def mlu_device() -> Any:
    import torch

    return torch.Device("mlu")


def save_as_cambricon(name: str) -> None:
    if name:
        if _told.keys() < {"device", "version", "number"} or _told.get("name"):
            undocumented("save_as_cambricon before device, version and number are set, or twice")
        _told["name"] = name
    elif not _told.get("forward"):
        undocumented("save_as_cambricon('') stands after the traced forward")
    else:
        for key in ("name", "traced", "forward"):
            _told.pop(key)
    record("save_as_cambricon", name)


def traced() -> None:
    if not _told.get("name"):
        undocumented("trace before save_as_cambricon(name)")
    _told["traced"] = True


def saved(inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    if not _told.get("traced"):
        undocumented("forward before trace")
    _told["forward"] = True
    with open(_told["name"] + ".cambricon", "wb") as file:  # noqa: PTH123
        np.savez(file, input=inputs[0], output=outputs[0])
    with open(_told["name"] + ".cambricon_twins", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("stand-in\n")

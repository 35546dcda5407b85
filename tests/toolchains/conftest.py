"""Toolchains for the tests marked ``toolchain(NAME)``: installed for real, once, where they are missing."""

from __future__ import annotations

import pytest
from accel.errors import AccelError
from accel.toolchain.install import install
from accel.toolchain.spec import Environment


@pytest.fixture(scope="session")
def horizon_toolchain() -> Environment:
    from accel_horizon.toolchain import HORIZON

    return install(HORIZON)


@pytest.fixture(scope="session")
def sophon_toolchain() -> Environment:
    from accel_sophon.toolchain import SOPHON

    return install(SOPHON)


@pytest.fixture(scope="session")
def tensorflow_toolchain() -> Environment:
    from accel.builtin.frontends.toolchains import TENSORFLOW

    return install(TENSORFLOW)


@pytest.fixture(scope="session")
def torch_toolchain() -> Environment:
    """Its CPU build lies on an index of its own, or among what pip is configured with: not every machine has it."""
    from accel.builtin.frontends.toolchains import TORCH

    try:
        return install(TORCH)
    except AccelError as error:
        if error.code != "toolchain.download":
            raise
        pytest.skip(f"no CPU build of torch can be had here: {error.cause}")

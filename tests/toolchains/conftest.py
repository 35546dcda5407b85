"""Vendors' toolchains for the tests marked ``toolchain(NAME)``: installed for real, once, where they are missing."""

from __future__ import annotations

import pytest
from accel.toolchain.spec import Environment


@pytest.fixture(scope="session")
def horizon_toolchain() -> Environment:
    from accel.toolchain.install import install
    from accel_horizon.toolchain import HORIZON

    return install(HORIZON)


@pytest.fixture(scope="session")
def sophon_toolchain() -> Environment:
    from accel.toolchain.install import install
    from accel_sophon.toolchain import SOPHON

    return install(SOPHON)

"""The plugin that accel loads when one of its targets is used. Hooks only; the work is in the modules they import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.toolchain.spec import Toolchain


@hookimpl
def accel_toolchains() -> Sequence[Toolchain]:
    """Horizon's compiler and simulator."""
    from accel_horizon.toolchain import HORIZON

    return [HORIZON]

"""Several models in one ``.hbm``: batch sizes of one network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accel.toolchain.spec import Environment

from accel_horizon.failures import failure


def pack(env: Environment, files: Sequence[Path], workspace: Path, log: Path) -> Path:
    """Pack ``.hbm`` files into one with ``hbdk-pack``; the runtime finds each model by its name.

    Raises:
        AccelError: what hbdk-pack refused.
    """
    from accel.toolchain.process import run

    packed = workspace / (files[0].stem.rpartition("_b")[0] + ".hbm")
    done = run(env, ["hbdk-pack", *files, "-o", packed], cwd=workspace, log=log, timeout=600, stage="build")
    if done.rc or not packed.is_file():
        raise failure(done, None, stage="build")
    return packed

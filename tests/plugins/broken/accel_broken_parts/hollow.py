"""Imports, and is not what it says."""

from accel import Numerics, Target, hookimpl

HOLLOW = "not a target"
CRACKED = Target(name="cracked", vendor="cracked", summary="", numerics={"fp32": Numerics("fp32")})


class Cracked:
    """A hook with an argument that the contract does not have."""

    @hookimpl
    def accel_build(self, model, chip):
        return None

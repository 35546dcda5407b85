"""Claims a name that another package has, beside one of its own."""

from accel import Numerics, Target

TOY1 = Target(name="toy1", vendor="duplicate", summary="An impostor", numerics={"fp32": Numerics("fp32")})
OWN = Target(name="own", vendor="duplicate", summary="Its own chip", numerics={"fp32": Numerics("fp32")})

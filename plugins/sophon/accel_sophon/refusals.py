"""What the options ask for and a chip cannot do: errors before anything runs, notes for what is not honoured."""

from __future__ import annotations

from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target


def refuse_and_note(target: Target, options: BuildOptions) -> list[str]:
    """What the chip cannot do, before anything runs; what it will not honour, as notes."""
    if options.opt is not None and options.opt not in (1, 2, 3):
        raise AccelError(f"the compiler has no level {options.opt}", code="usage.opt", hints=["Use --opt 1 or 2."])
    if options.opt == 3 and target.arch == "bm1684":
        raise AccelError("--opt 3 crashes the compiler for bm1684", code="unsupported.opt", hints=["Use --opt 2."])
    cores = options.cores or target.cores[0]
    if cores not in target.cores:
        raise AccelError(
            f"{target.name} cannot be built for {cores} cores",
            code="unsupported.cores",
            hints=[f"It has: {', '.join(map(str, target.cores))}."],
        )
    if options.int_io and not target.numerics_for(options.precision).quantized:
        raise AccelError("quantised input or output needs a quantised precision", code="usage.int-io")
    notes = []
    if options.dynamic and target.numerics_for(options.precision).quantized and target.arch == "bm1684":
        notes.append("dynamic shapes: the compiler's INT8 results differ from the static ones on this chip")
    return notes


def refuse_free(model: Model) -> None:
    for spec in model.inputs:
        free = [d for d in spec.shape if not isinstance(d, int)]
        if free:
            raise AccelError(
                f"input {spec.name!r} has free dimensions: {', '.join(map(str, free))}",
                code="usage.shape",
                hints=[f"Fix them: --input-shape {spec.name}=1,3,224,224"],
            )

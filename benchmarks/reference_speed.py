"""The reference's int8 throughput, chip by chip, against plain float ONNX Runtime.

    python benchmarks/reference_speed.py

Both run the same prepared graph on the same input on one thread, in turns, by CPU time. Chips whose arithmetic takes
more steps than int8 codes with one multiplication a channel pay for it, and are shown.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from accel import driver
from accel.builtin.prepare.tuning import choose_ranges
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import session
from accel.options import CalibrateOptions
from accel.plugins import Registry
from accuracy import NUMERICS
from turns import cpu_in_turns, plain_session
from zoo import NETWORKS, case

CHIPS = ("bm1684", "bm1684x", "j5", "mlu370-s4")


def main() -> None:
    chips = Registry()
    chosen = {**NUMERICS, **{name: chips.target(name).numerics_for("int8") for name in chips.targets if name in CHIPS}}
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            found = case(network, Path(folder))
        calibration = driver.calibrate(found.model, found.calibration, CalibrateOptions(samples=4))
        ranges = choose_ranges(found.model, calibration, "auto")
        plain = plain_session(found.model.proto.SerializeToString())
        feed = {found.input_name: found.inputs[0]}
        for what, numerics in chosen.items():
            made = session(quantize(found.model, numerics, ranges).proto.SerializeToString(), 1)
            first, second = cpu_in_turns([partial(one.run, None, feed) for one in (plain, made)])
            print(f"{network:20s} {what:32s} {first / second:.2f} of plain float's throughput", flush=True)


if __name__ == "__main__":
    main()

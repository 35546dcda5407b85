"""accel_commands: the compiler's command lines for a build, without running any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accel.builtin.prepare.batch import set_batch
from accel.builtin.prepare.split import split_tail
from accel.model import Model
from accel.options import BuildOptions
from accel.target import Target
from accel.toolchain.find import find

from accel_sophon import caffe, commands, table
from accel_sophon.check import unsupported_nodes
from accel_sophon.compiling import deploy_flags
from accel_sophon.pixels import fuse_arguments, fused, refuse_pixels
from accel_sophon.refusals import refuse_and_note, refuse_free
from accel_sophon.toolchain import SOPHON
from accel_sophon.transforms import identifier


def build_commands(model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]]:
    """One list of words a command, in order; each runs in a directory of its own batch.

    Raises:
        AccelError: what the options ask for and the chip cannot do.
    """
    refuse_and_note(target, options)
    refuse_pixels(model, target, options)
    split = split_tail(model, unsupported_nodes(model, target, options))
    network = split.chip if split else model
    numerics = target.numerics_for(options.precision)
    name = identifier(model.name)
    mlir, bmodel = Path(f"{name}.mlir"), Path(f"{name}_{target.arch}.bmodel")
    found: list[list[str]] = []
    for batch in options.batches:
        made = set_batch(network, batch)
        refuse_free(made)
        shapes = [[int(d) for d in spec.shape] for spec in made.inputs]
        source, weights = Path(f"{name}.onnx"), None
        cut: tuple[str, ...] = ()
        if model.vendor_reads:
            source, weights = Path(f"{name}.prototxt"), Path(f"{name}.caffemodel")
            cut = tuple(caffe.output_blobs(made))
        pre = fuse_arguments(made, options.preprocessing) if fused(options) and options.preprocessing else None
        words = commands.transform_arguments(name, source, shapes, weights, cut, pre)
        found.append(_python("model_transform", words))
        thresholds = precisions = None
        if numerics.quantized and options.calibrator == "vendor":
            count = len(options.dataset) if options.dataset is not None else 0
            search = options.set.get("search", "")
            data = Path("calibration_data")
            found.append(
                _python(
                    "run_calibration",
                    commands.calibrate_arguments(mlir, data, count, target.arch, options.method, search),
                )
            )
            thresholds = Path(commands.VENDOR_TABLE)
            precisions = Path(commands.VENDOR_PRECISIONS) if search else None
        elif numerics.quantized:
            # The quantize table is written only where some layer is kept in float.
            thresholds, precisions = Path("calibration_table"), Path("quantize_table")
        elif options.node_precisions:
            precisions = Path("quantize_table")
        mode = table.MODES[numerics.precision]
        extra = deploy_flags(target, options)
        words = commands.deploy_arguments(mlir, bmodel, target.arch, mode, thresholds, precisions, extra)
        found.append(_python("model_deploy", words))
    if len(options.batches) > 1:
        parts = [f"batch{b}/{bmodel}" for b in sorted(options.batches, reverse=True)]
        found.append(["model_tool", "--combine", *parts, "-o", f"{name}.bmodel"])
    return found


def _python(tool: str, arguments: Sequence[str]) -> list[str]:
    env = find(SOPHON)
    python = str(env.python) if env else "python"
    return [python, f"{tool}.py", *arguments]

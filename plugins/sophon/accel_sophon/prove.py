"""The toolchain's proof: a network of three layers, compiled for two chips and simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accel.errors import AccelError
from accel.toolchain.spec import Environment

from accel_sophon.commands import Bench, deploy, lowered, transform
from accel_sophon.simulators import Simulator


def compile_and_simulate(env: Environment, folder: Path) -> str:
    """BM1684 in float through the compiler and its functional model, against NumPy.

    Raises:
        AccelError: whatever fails; ``toolchain.broken`` when the numbers are wrong.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "proof",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "proof.onnx")
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    want = np.maximum(np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x), 0)
    bench = Bench(env, folder, folder / "log.txt")
    mlir = transform(bench, "proof", folder / "proof.onnx", [[1, 3, 8, 8]])
    bmodel = deploy(bench, mlir, folder / "proof_bm1684.bmodel", chip="bm1684", mode="F32")
    for kind, path in (("mlir", lowered(bench)), ("cmodel", bmodel)):
        with Simulator(env, kind, "bm1684", path) as simulator:
            got = next(iter(simulator.infer({"x": x}).values()))
        if not np.allclose(got.reshape(-1), want.reshape(-1), atol=1e-3):
            raise AccelError(f"the {kind} simulator computes wrong numbers", code="toolchain.broken", log=bench.log)
    return f"tpu_mlir {env.version}: compiled and simulated a small network"

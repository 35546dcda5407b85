"""Small networks for tests, made from node lists."""

from __future__ import annotations

import numpy as np
import onnx
from accel.builtin.reference.runner import session
from accel.calibration import Range
from accel.model import Model, io_specs
from onnx import TensorProto, helper, numpy_helper


def network(nodes, inputs, outputs, constants=(), *, opset=17, name="net"):
    """A checked Model. ``nodes``: (op, inputs, outputs, attributes); ``inputs``/``outputs``: name -> shape."""
    made = [
        helper.make_node(op, list(ins), list(outs), name=f"{op.lower()}_{at}", **attrs)
        for at, (op, ins, outs, attrs) in enumerate(nodes)
    ]
    graph = helper.make_graph(
        made,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in dict(constants).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto)
    return Model(proto, name, *io_specs(proto))


def every_tensor(model, feeds):
    """Float value of every float tensor of the graph."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    kinds = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    held = {o.name for o in proto.graph.output}
    names = [o for n in proto.graph.node for o in n.output if o and kinds.get(o, 1) == 1]
    for wanted in names:
        if wanted not in held:
            proto.graph.output.append(helper.make_tensor_value_info(wanted, TensorProto.FLOAT, None))
    values = dict(zip(names, session(proto.SerializeToString(), 1).run(names, feeds), strict=True))
    return {**feeds, **values}


def seen_ranges(model, feeds):
    """The exact range of every tensor over one feed."""
    return {name: Range(float(v.min()), float(v.max())) for name, v in every_tensor(model, feeds).items() if v.size}


def residual_net(seed=0, channels=8, size=12):
    """Conv-Relu6, depthwise-Relu, 1x1, Add, Concat, pools, Gemm: what mobile networks are made of."""
    rng = np.random.default_rng(seed)

    def w(*shape):
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    c = channels
    constants = {
        "w0": w(c, 3, 3, 3), "b0": w(c), "w1": w(c, 1, 3, 3), "b1": w(c), "w2": w(c, c, 1, 1), "b2": w(c),
        "w3": w(2 * c, 10), "b3": w(10), "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    nodes = [
        ("Conv", ["x", "w0", "b0"], ["c0"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Clip", ["c0", "zero", "six"], ["r0"], {}),
        ("Conv", ["r0", "w1", "b1"], ["c1"], {"pads": [1, 1, 1, 1], "group": c}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w2", "b2"], ["c2"], {}),
        ("Add", ["c2", "r0"], ["sum"], {}),
        ("MaxPool", ["sum"], ["most"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("AveragePool", ["sum"], ["mean"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Sigmoid", ["mean"], ["gate"], {}),
        ("Concat", ["most", "gate"], ["both"], {"axis": 1}),
        ("GlobalAveragePool", ["both"], ["pooled"], {}),
        ("Flatten", ["pooled"], ["flat"], {}),
        ("Gemm", ["flat", "w3", "b3"], ["y"], {}),
    ]
    model = network(nodes, {"x": [1, 3, size, size]}, {"y": [1, 10]}, constants, name="residual")
    feeds = {"x": rng.normal(0, 1, (1, 3, size, size)).astype(np.float32)}
    return model, feeds

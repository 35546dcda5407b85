"""Runs a model that hmct wrote, in hmct's own ONNX Runtime, for ``accel_horizon.runners``.

Served on the toolchain's Python. ``open`` loads a stage of a model; ``infer`` runs it. For the stage of the chip
the host's part of the model is loaded and the bytes of the very ``.hbm`` file are put inside: hmct's runtime hands
them to hbdk's simulator (libhbdk_sim).
"""

from pathlib import Path

import numpy as np
from accel_worker import serve
from horizon_nn.executor import ORTExecutor
from onnx import TensorProto, helper, load

HBM = "PACKED_HBM_MODEL"
_open = {}


def open_model(params, _arrays):
    model = load(params["model"])
    if params.get("hbm"):
        data = Path(params["hbm"]).read_bytes()
        for tensor in model.graph.initializer:
            if tensor.name == HBM:
                tensor.data_type = TensorProto.STRING
                del tensor.string_data[:]
                tensor.string_data.append(data)
    shown = show(model, params.get("layers", []))
    session = ORTExecutor(model).to("cpu").create_session()
    _open["session"] = session
    return {
        "inputs": [{"name": i.name, "shape": list(i.shape), "type": int(i.type)} for i in session.get_inputs()],
        "outputs": [o.name for o in session.get_outputs()],
        "layers": shown,
    }, {}


def show(model, layers):
    """Make inner tensors outputs; for each that there is, under what name it stands and whether it is NHWC."""
    known = {v.name: v for v in model.graph.value_info}
    producers = {o: node for node in model.graph.node for o in node.output}
    have = {o.name for o in model.graph.output}
    shown = {}
    for layer in layers:
        for name in (layer, layer + "_quantized", layer + "_calibrated_quantized"):
            if name in producers and (name in known or name in have):
                if name not in have:
                    model.graph.output.append(known[name])
                    have.add(name)
                shown[layer] = {"name": name, "nhwc": is_nhwc(producers[name], producers)}
                break
    return shown


def is_nhwc(node, producers):
    """Whether a node writes NHWC: it says so, or, as a Concat, it has the layout of what it reads."""
    for attribute in node.attribute:
        if attribute.name == "data_format":
            return helper.get_attribute_value(attribute) == b"NHWC"
    if node.op_type == "Transpose" or not node.input or node.input[0] not in producers:
        return False
    return is_nhwc(producers[node.input[0]], producers)


def infer(params, arrays):
    feeds = {n: np.array(a) for n, a in arrays.items()}
    results = _open["session"].forward(feeds, params["fetch"])
    return {}, {n: np.asarray(a) for n, a in results.items()}


serve({"open": open_model, "infer": infer})

"""Runs in the Python that has sophon-sail: a bmodel on a device. Written against the documented sail API."""

import numpy as np
from accel_worker import serve

state = {}


def open_device(params, arrays):
    import sophon.sail as sail

    # SYSIO: inputs and outputs in host memory; sail turns float32 into the model's codes and back.
    engine = sail.Engine(params["path"], params["device"], sail.IOMode.SYSIO)
    graph = engine.get_graph_names()[0]
    state["engine"], state["graph"] = engine, graph
    return {
        "network": graph,
        "inputs": [{"name": n, "shape": list(engine.get_input_shape(graph, n))} for n in engine.get_input_names(graph)],
        "outputs": [
            {"name": n, "shape": list(engine.get_output_shape(graph, n))} for n in engine.get_output_names(graph)
        ],
    }, {}


def infer_device(params, arrays):
    feeds = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    made = state["engine"].process(state["graph"], feeds)
    return {}, {name: np.array(array) for name, array in made.items()}


serve({"open_device": open_device, "infer_device": infer_device})

"""Turns a TensorFlow.js graph model into a frozen GraphDef. Runs on the tensorflow toolchain's Python.

    python tfjs.py model.json frozen.pb

The format: a GraphDef as JSON whose constants lie in weight files, described by ``weightsManifest`` (dtype, shape,
and for float16 the type they are stored in), convolutions fused with what follows them (TensorFlow.js, "Model format").
"""

import base64
import copy
import json
import sys
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import tensor_util

PLAIN = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
KEPT = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")


def weights(model: dict, folder: Path) -> dict[str, np.ndarray]:
    """Constants by name."""
    found = {}
    for group in model["weightsManifest"]:
        data = b"".join((folder / Path(path).name).read_bytes() for path in group["paths"])
        at = 0
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            array = np.frombuffer(data, stored, count, at).reshape(entry["shape"])
            found[entry["name"]] = array.astype(entry["dtype"])
            at += count * stored.itemsize
    return found


def unfused(node: dict) -> list[dict]:
    """A fused convolution as the convolution and what follows it; the last has the name of the whole."""
    if node["op"] not in PLAIN:
        return [node]
    steps = [base64.b64decode(word).decode() for word in node["attr"]["fused_ops"]["list"]["s"]]
    attributes = {name: value for name, value in node["attr"].items() if name in KEPT}
    made = [{"name": node["name"], "op": PLAIN[node["op"]], "input": node["input"][:2], "attr": attributes}]
    extra = iter(node["input"][2:])
    for step in steps:
        before = made[-1]
        before["name"] = f"{node['name']}/{before['op']}"
        given = [before["name"], next(extra)] if step == "BiasAdd" else [before["name"]]
        made.append({"name": node["name"], "op": step, "input": given, "attr": {"T": node["attr"]["T"]}})
    return made


def frozen(path: Path) -> graph_pb2.GraphDef:
    """The graph with its weights inside."""
    model = json.loads(path.read_text(encoding="utf-8"))
    held = weights(model, path.parent)
    topology = copy.deepcopy(model["modelTopology"])
    topology["node"] = [plain for node in topology["node"] for plain in unfused(node)]
    graph = json_format.ParseDict(topology, graph_pb2.GraphDef(), ignore_unknown_fields=True)
    for node in graph.node:
        if node.op == "Const":
            node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(held[node.name]))
    return graph


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(frozen(Path(sys.argv[1])).SerializeToString())

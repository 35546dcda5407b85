"""Describes a runtime model: ``describe_bin.py MODEL.bin OUT.json``."""

import json
import sys
from pathlib import Path

from horizon_tc_ui.hbdtort.runtime_pb2 import ModelProto


def tensor(kind, value):
    types = value.type.DESCRIPTOR.fields_by_name["elem_type"].enum_type.values_by_number
    shape = "x".join(str(d) for d in value.type.dim)
    return [kind, value.name, types[value.type.elem_type].name.lower(), shape]


def main():
    model = ModelProto()
    model.ParseFromString(Path(sys.argv[1]).read_bytes())
    found = {"nodes": [], "tensors": [], "info": {}, "hbm_bytes": 0}
    for graph in model.graphs:
        for node in graph.node:
            found["nodes"].append([node.name, node.op_type, "BPU" if node.op_type == "BPU" else "CPU"])
        found["tensors"] += [tensor("input", v) for v in graph.input]
        found["tensors"] += [tensor("output", v) for v in graph.output]
        for value in graph.initializer:
            if value.name == "PACKED_HBM_MODEL":
                found["hbm_bytes"] += len(value.string_data[0])
    for info in model.metadata_props_info:
        found["info"].update(info.model_info)
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

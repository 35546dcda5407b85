"""What a file from anywhere must not make TensorFlow do: reach outside the network, or run Python."""

import re
from pathlib import Path

from exporting import Refused, refuse_bomb

# Operators that touch files, other processes, Python or global state; a network has none.
_OUTSIDE = re.compile(
    "File|Reader|Writer|Record|Dataset|Iterator|PyFunc|Rpc|Debug|Save|Restore|Print|Summary|Checkpoint|Sql|Snapshot"
    "|LookupTable(Im|Ex)port|InitializeTable|LoadAndRemap|Remote|Send|Recv|Collective|Abort|Queue|Barrier|Mutex"
)
# A graph of TensorFlow 1 carries its own saver; a table is filled when it is loaded.
_SAVER = re.compile("(Save|Restore)V2$|ShardedFilename$|MergeV2Checkpoints$")
_TABLE = re.compile("LookupTableImport|InitializeTable")


def refuse_outside(graph_def):
    """Every node of the graph and of its functions."""
    for node in [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]:
        if _OUTSIDE.search(node.op):
            raise _refused(node)


def _refused(node):
    summary = f"node {node.name!r} ({node.op}) reaches outside the network, and was refused"
    return Refused("unsupported.op", summary, node=node.name)


def refuse_at_load(saved_model):
    """The parts of a SavedModel (the protobuf) that loading it runs, before any signature is called."""
    for meta in saved_model.meta_graphs:
        bodies = {f.signature.name: f.node_def for f in meta.graph_def.library.function}
        found = _resource_functions(meta.object_graph_def)
        if not meta.object_graph_def.nodes:  # TensorFlow 1: its start-up operator may be any of the graph
            for node in meta.graph_def.node:
                if _OUTSIDE.search(node.op) and not _SAVER.search(node.op) and not _TABLE.search(node.op):
                    raise _refused(node)
            found = {name for node in meta.graph_def.node for name in _called(node)}
        seen = set()
        while found:
            name = found.pop()
            seen.add(name)
            for node in bodies.get(name, ()):
                if _OUTSIDE.search(node.op) and not _TABLE.search(node.op):
                    raise _refused(node)
                found |= _called(node) - seen


def _resource_functions(objects):
    """Functions that make, fill and delete a resource: they run when it is loaded, and when it goes."""
    found = set()
    for node in objects.nodes:
        for child in node.children:
            if child.local_name in ("_initialize", "_create_resource", "_destroy_resource"):
                made = objects.nodes[child.node_id] if child.node_id < len(objects.nodes) else node
                found.update(made.function.concrete_functions)
                found.add(made.bare_concrete_function.concrete_function_name)
    return found


def _called(node):
    names = {node.op}
    for value in node.attr.values():
        names.update([value.func.name, *(f.name for f in value.list.func)])
    return names - {""}


def refuse_keras(source):
    """A zip that grows without end; and Lambda layers in HDF5, which are marshalled Python that loading runs."""
    if Path(source).suffix == ".keras":
        refuse_bomb(source)  # Lambda layers are refused by safe_mode
        return
    import h5py

    try:
        with h5py.File(source, "r") as file:
            text = file.attrs.get("model_config", "")
    except OSError as error:
        raise Refused("model.keras", f"{source.name} is no readable HDF5 file", str(error)) from error
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not text:
        raise Refused("model.keras", f"{source.name} holds weights without a network", hints=["Save the whole model."])
    if '"Lambda"' in text:
        raise Refused("model.pickle", f"{source.name} has a Lambda layer, which holds Python code, and was refused")

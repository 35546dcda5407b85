"""Networks that answer with a dictionary: ONNX has outputs in an order, with names."""

import torch
from exporting import Refused


class _Values(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *tensors):
        return tuple(self.inner(*tensors).values())


def without_dict(module):
    """``module`` (which answers with a dictionary of tensors) with the dictionary's values in a tuple instead."""
    if not isinstance(module, torch.jit.ScriptModule):
        return _Values(module)
    frozen = torch.jit.freeze(module, optimize_numerics=False)  # weights become constants: a graph without a self
    graph = frozen.graph.copy()
    (result,) = graph.outputs()
    made = result.node()
    if made.kind() != "prim::DictConstruct":
        hints = ["Trace a module that returns a tuple."]
        raise Refused("unsupported.op", "the network builds its dictionary of outputs step by step", hints=hints)
    values = list(made.inputs())[1::2]
    together = graph.create("prim::TupleConstruct", values, 1)
    together.output().setType(torch._C.TupleType([v.type() for v in values]))
    graph.appendNode(together)
    graph.eraseOutput(0)
    graph.registerOutput(together.output())
    graph.eraseInput(0)
    made.destroy()
    return torch._C._create_function_from_graph("forward", graph)


def output_names(asked, first, count):
    """Names of ``count`` outputs: as asked, or the keys of the dictionary ``first``, or numbered."""
    if asked:
        if len(asked) != count:
            raise Refused("usage.output", f"the network has {count} outputs, torch_outputs names {len(asked)}")
        return asked
    if isinstance(first, dict) and len(first) == count:
        return [str(key) for key in first]
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]

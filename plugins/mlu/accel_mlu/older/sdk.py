"""Quantises a network and saves offline models with Cambricon PyTorch. The vendor's side: NumPy, torch and torch_mlu.

The same file is the worker that ``accel`` starts in the vendor's Python (3.7), and the body of the script that
``--set emit_script=yes`` leaves (any Python 3).
"""

# mypy: ignore-errors
# ruff: noqa: B905, PTH113, PTH123

import json
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
import torch_mlu.core.mlu_model as ct
import torch_mlu.core.mlu_quantize as mlu_quantize


def pads_of(attrs):
    """Symmetric padding of height and width."""
    top, left, bottom, right = attrs.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ValueError("padding differs between the two ends: {}".format(attrs["pads"]))
    return (top, left)


def window(attrs):
    """Kernel, stride and padding of a pool."""
    kernel = tuple(attrs["kernel_shape"])
    return {"kernel_size": kernel, "stride": tuple(attrs.get("strides", (1, 1))), "padding": pads_of(attrs)}


def convolution(kind, attrs, weight, bias):
    """The module of a convolution; its weights are filled in."""
    group = attrs.get("group", 1)
    common = {
        "kernel_size": tuple(weight.shape[2:]),
        "stride": tuple(attrs.get("strides", (1, 1))),
        "padding": pads_of(attrs),
        "dilation": tuple(attrs.get("dilations", (1, 1))),
        "groups": group,
        "bias": bias is not None,
    }
    if kind == "Conv":
        module = nn.Conv2d(weight.shape[1] * group, weight.shape[0], **common)
    else:
        common["output_padding"] = tuple(attrs.get("output_padding", (0, 0)))
        module = nn.ConvTranspose2d(weight.shape[0], weight.shape[1] * group, **common)
    return fill(module, weight, bias)


def fill(module, weight, bias):
    """Give a module its weights."""
    module.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
    if bias is not None:
        module.bias.data = torch.from_numpy(np.ascontiguousarray(bias))
    return module


class Network(nn.Module):
    """The graph in ``network.json``: modules where weights are quantised, functions for all else."""

    def __init__(self, graph, weights):
        super().__init__()
        self.graph, self.held = graph, weights
        for node in graph["nodes"]:
            kind, attrs = node["op"], node["attrs"]
            if kind in ("Conv", "ConvTranspose", "Linear"):
                weight = weights[node["inputs"][1]]
                bias = weights[node["inputs"][2]] if len(node["inputs"]) > 2 else None
                if kind == "Linear":
                    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
                    module = fill(module, weight, bias)
                else:
                    module = convolution(kind, attrs, weight, bias)
                setattr(self, node["module"], module)

    def forward(self, *inputs):
        """Run the graph."""
        values = dict(zip(self.graph["inputs"], inputs))
        for node in self.graph["nodes"]:
            if "module" in node:
                result = getattr(self, node["module"])(values[node["inputs"][0]])
            else:
                given = [values[n] if n in values else torch.from_numpy(self.held[n]) for n in node["inputs"]]
                result = FUNCTIONS[node["op"]](node["attrs"], *given)
            values[node["output"]] = result
        results = tuple(values[name] for name in self.graph["outputs"])
        return results[0] if len(results) == 1 else results


def resized(attrs, x):
    """Upsampling by whole factors."""
    more = {} if attrs["mode"] == "nearest" else {"align_corners": attrs["align_corners"]}
    return F.interpolate(x, scale_factor=tuple(attrs["factors"]), mode=attrs["mode"], **more)


FUNCTIONS = {
    "Relu": lambda attrs, x: F.relu(x),
    "Clip": lambda attrs, x: F.hardtanh(x, attrs["low"], attrs["high"]),
    "LeakyRelu": lambda attrs, x: F.leaky_relu(x, attrs.get("alpha", 0.01)),
    "Sigmoid": lambda attrs, x: torch.sigmoid(x),
    "Softmax": lambda attrs, x: F.softmax(x, dim=attrs.get("axis", -1)),
    "Add": lambda attrs, a, b: a + b,
    "Mul": lambda attrs, a, b: a * b,
    "Concat": lambda attrs, *parts: torch.cat(parts, dim=attrs["axis"]),
    "MaxPool": lambda attrs, x: F.max_pool2d(x, **window(attrs)),
    "AveragePool": lambda attrs, x: F.avg_pool2d(
        x, count_include_pad=bool(attrs.get("count_include_pad", 0)), **window(attrs)
    ),
    "GlobalAveragePool": lambda attrs, x: F.adaptive_avg_pool2d(x, (1, 1)),
    "Flatten": lambda attrs, x: torch.flatten(x, attrs.get("axis", 1)),
    "Reshape": lambda attrs, x: torch.reshape(x, tuple(attrs["shape"])),
    "Transpose": lambda attrs, x: x.permute(*attrs["perm"]),
    "Resize": resized,
    "Identity": lambda attrs, x: x,
}


def load(plan):
    """The network of the plan, in float on the CPU."""
    with open(plan["graph"], encoding="utf-8") as file:
        graph = json.load(file)
    with np.load(plan["weights"], allow_pickle=False) as held:
        weights = {name: held[name] for name in held.files}
    return Network(graph, weights).eval().float()


def quantize(plan, dtype):
    """First step, on the CPU: run the samples through the quantiser, keep its state; gives the file."""
    told = {
        "iteration": len(plan["samples"]),
        "use_avg": False,
        "data_scale": 1.0,
        "mean": plan["mean"],
        "std": plan["std"],
        "firstconv": plan["first_conv"],
        "per_channel": plan["per_channel"],
    }
    net = mlu_quantize.quantize_dynamic_mlu(load(plan), told, dtype=dtype, gen_quant=True)
    with torch.no_grad():
        for files in plan["samples"]:
            net(*[torch.from_numpy(np.load(f, allow_pickle=False)) for f in files])
    state = "{}_{}.pth".format(plan["name"], dtype)
    torch.save(net.state_dict(), state)
    return state


def save_offline(plan, state, half, name):
    """Second step, with no card: trace on the MLU device and save ``name.cambricon``."""
    net = mlu_quantize.quantize_dynamic_mlu(load(plan))
    net.load_state_dict(torch.load(state))
    net = net.eval().float()
    ct.set_device(-1)
    ct.set_core_version(plan["core_version"])
    ct.set_core_number(plan["core_number"])
    ct.save_as_cambricon(name)
    examples = []
    for shape in plan["shapes"]:
        example = torch.randn(*shape)
        examples.append((example.half() if half else example).to(ct.mlu_device()))
    with torch.no_grad():
        traced = torch.jit.trace(net.to(ct.mlu_device()), tuple(examples), check_trace=False)
        traced(*examples)
    ct.save_as_cambricon("")


def build(plan):
    """Every variant of the plan; gives the files by variant."""
    states, made = {}, {}
    for variant in plan["variants"]:
        dtype, kind = variant.split("_")
        if dtype not in states:
            states[dtype] = quantize(plan, dtype)
        name = "{}_{}".format(plan["name"], variant)
        save_offline(plan, states[dtype], kind == "fp16", name)
        made[variant] = [name + suffix for suffix in (".cambricon", ".cambricon_twins")]
        for path in made[variant]:
            if not os.path.isfile(path):
                raise RuntimeError(f"Cambricon PyTorch left no {path}")
    return made


# --- below here: only for the worker ---


def worker_main():
    """Answer the driver's call."""
    from accel_worker import serve

    serve({"build": lambda params, arrays: ({"made": build(params["plan"])}, {})})


if __name__ == "__accel_worker__":
    sys.exit(worker_main())

"""Writes TorchScript files of torchvision networks with seeded weights, on the torch toolchain's Python.

Served to the tests as a worker: ``accel_worker.py torchvision_nets.py FOLDER_OF_TORCHVISION``.
"""

import sys
import types

import torch
from accel_worker import serve

# The registry's torchvision is built against another torch; only its Python definitions are wanted here.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
sys.path.insert(0, sys.argv[1])
from torchvision import models  # noqa: E402

LOGIT = 5.0
"""Largest output. Trained networks reach 5 to 20 on photos; a seeded one would give 300, or 0.03."""


def damp(net):
    """Let each residual block add little to what it got, as in trained networks: else errors grow with the depth."""
    for block in net.modules():
        if any(word in type(block).__name__ for word in ("Bottleneck", "BasicBlock", "Residual", "MBConv")):
            named = block.named_modules()
            norms = [
                m for n, m in named if isinstance(m, torch.nn.BatchNorm2d) and "downsample" not in n and "proj" not in n
            ]
            if norms:
                torch.nn.init.constant_(norms[-1].weight, 0.25)


def make(params, arrays):
    """``name`` traced to ``path``; returns what it answers to the photos ``x`` (normalised, NCHW)."""
    torch.manual_seed(0)
    x = torch.from_numpy(arrays["x"].copy())
    extra = {"aux_logits": False, "init_weights": False} if params["name"] == "googlenet" else {}
    net = models.get_model(params["name"], weights=None, **extra).eval()
    damp(net)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if norms:  # statistics of what really flows: the signal reaches the end, as in a trained network
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            net.train()(torch.cat([x, torch.randn_like(x)]))  # the driver compares on noise
        net.eval()
    last = [m for m in net.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    with torch.no_grad():
        factor = LOGIT / net(x).abs().max()
        last.weight.mul_(factor)
        last.bias.mul_(factor)
        torch.jit.trace(net, x[:1]).save(params["path"])
        return {}, {"y": net(x).numpy()}


serve({"make": make})

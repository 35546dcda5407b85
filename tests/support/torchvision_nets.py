"""Writes TorchScript files of torchvision networks with seeded weights. Runs on the torch toolchain's Python.

python torchvision_nets.py FOLDER_OF_TORCHVISION OUT_FOLDER NAME...
"""

import sys
import types
from pathlib import Path

import torch

# The registry's torchvision is built against another torch; only its Python definitions are wanted here.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
sys.path.insert(0, sys.argv[1])
from torchvision import models  # noqa: E402

for name in sys.argv[3:]:
    torch.manual_seed(0)
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    made = models.get_model(name, weights=None, **extra).eval()
    size = 299 if name == "inception_v3" else 224
    norms = [m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if norms:  # statistics of what really flows: the signal reaches the end, as in a trained network
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            made.train()(torch.randn(4, 3, size, size))
        made.eval()
    torch.jit.trace(made, torch.rand(1, 3, size, size)).save(str(Path(sys.argv[2]) / f"{name}.pt"))

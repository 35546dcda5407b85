"""Trains MixVarGENet in float and exports it. Runs on the torch toolchain's Python; see train.py.

training.py DATA.npz OUT.onnx EPOCHS

DATA.npz holds ``pictures`` (n, side, side, 3) uint8, ``labels`` (n,), and the indices ``train`` and ``evaluation``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import numpy as np
import torch
from layout import Conv, Layout, convolutions, mixvargenet
from torch import nn

MEAN, STD = 127.5, 64.0


class MixVarGENet(nn.Module):
    """The network of ``layout`` with batch normalisation after every convolution."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.order: list[Conv] = list(convolutions(layout))
        self.layers = nn.ModuleDict(
            {
                one.name: nn.Sequential(
                    nn.Conv2d(
                        one.inputs, one.outputs, one.size, one.stride, one.size // 2, groups=one.groups, bias=False
                    ),
                    nn.BatchNorm2d(one.outputs),
                )
                for one in self.order
            }
        )
        self.classifier = nn.Linear(layout.head, layout.classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        results = {"input": pictures}
        for one in self.order:
            source = torch.cat([results[name] for name in one.source.split("+")], 1)
            made = self.layers[one.name](source)
            if one.shortcut:
                made = made + results[one.shortcut]
            results[one.name] = torch.relu(made) if one.relu else made
        return self.classifier(results["head"].mean((2, 3)))


def train(model: MixVarGENet, given: Mapping[str, np.ndarray], epochs: int, batch: int = 64) -> float:
    """AdamW with a cosine rate; returns the share of evaluation digits that are right."""
    data = torch.from_numpy((given["pictures"].transpose(0, 3, 1, 2).astype(np.float32) - MEAN) / STD)
    truth = torch.from_numpy(given["labels"])
    parts = {name: torch.from_numpy(given[name]) for name in ("train", "evaluation")}
    kept = parts["train"]
    steps = epochs * (len(kept) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        started, total = time.perf_counter(), 0.0
        for rows in kept[torch.randperm(len(kept))].split(batch):
            if len(rows) < batch:
                continue
            # Shifts by a few pixels: the digits are centred, other people's are not.
            moved = torch.roll(data[rows], tuple(torch.randint(-4, 5, (2,)).tolist()), (2, 3))
            optimiser.zero_grad()
            error = loss(model(moved), truth[rows])
            error.backward()
            optimiser.step()
            rates.step()
            total += float(error.detach())
        model.eval()
        with torch.no_grad():
            guesses = torch.cat([model(data[rows]).argmax(1) for rows in parts["evaluation"].split(batch)])
        right = float((guesses == truth[parts["evaluation"]]).float().mean())
        print(f"epoch {epoch + 1}: loss {total:.2f}, right {right:.4f}, {time.perf_counter() - started:.1f} s")
    return right


def main() -> None:
    data, out, epochs = sys.argv[1:]
    torch.manual_seed(0)
    model = MixVarGENet(mixvargenet(classes=10, head=256))
    with np.load(data, allow_pickle=False) as given:
        train(model, given, int(epochs))
        side = given["pictures"].shape[1]
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, side, side),),
        out,
        input_names=["input"],
        output_names=["logits"],
        opset_version=13,
        dynamo=False,
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


if __name__ == "__main__":
    main()

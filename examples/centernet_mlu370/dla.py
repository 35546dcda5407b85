"""CenterNet on DLA-34 without deformable convolutions, traced to TorchScript. Runs on the torch toolchain's Python.

    dla.py OUT.pt PHOTOS.npy WIDTH

The shapes are those of the public network (DLA: arXiv:1707.06484, figure 3; CenterNet: arXiv:1904.07850). The 3x3
maximum over the heat map is inside the network, which has four outputs: heat, the pooled heat, sizes and offsets.

Batch norms are folded into the weights, which are seeded (He's initialisation; residual branches are quieter, as in
trained networks). The heads get the range of trained ones over the photos.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = 80
HEADS = {"heat": (CLASSES, -4.0, 1.0), "wh": (2, 10.0, 3.0), "reg": (2, 0.5, 0.2)}
"""Channels, and the mean and spread over the photos: few peaks, boxes of some 40 pixels, as trained heads give."""


class Conv(nn.Sequential):
    """Convolution with half padding, with or without ReLU; ``gain`` keeps the size of what passes through it."""

    def __init__(
        self, before: int, after: int, kernel: int = 3, stride: int = 1, *, relu: bool = True, gain: float = 2.0
    ) -> None:
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2)
        nn.init.normal_(convolution.weight, 0, (gain / (before * kernel**2)) ** 0.5)
        nn.init.normal_(convolution.bias, 0, 0.05)
        super().__init__(convolution, nn.ReLU() if relu else nn.Identity())


class Block(nn.Module):
    """Two convolutions and a short cut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(Conv(before, after, 3, stride), Conv(after, after, relu=False, gain=0.5))

    def forward(self, x: Tensor, short: Tensor) -> Tensor:
        return torch.relu(self.inner(x) + short)


class Tree(nn.Module):
    """Hierarchical aggregation: two subtrees (or blocks) whose results a 1x1 convolution joins."""

    def __init__(
        self, levels: int, before: int, after: int, stride: int, *, root: bool = False, given: int = 0
    ) -> None:
        super().__init__()
        self.root, self.levels = root, levels
        given += before if root else 0
        self.down = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        if levels > 1:
            self.first = Tree(levels - 1, before, after, stride)
            self.second = Tree(levels - 1, after, after, 1, given=given + after)
        else:
            self.project = Conv(before, after, 1, relu=False, gain=1.0) if before != after else nn.Identity()
            self.first, self.second = Block(before, after, stride), Block(after, after, 1)
            self.join = Conv(2 * after + given, after, 1)

    def forward(self, x: Tensor, children: tuple[Tensor, ...] = ()) -> Tensor:
        bottom = self.down(x)
        if self.root:
            children = (*children, bottom)
        if self.levels > 1:
            first = self.first(x)
            return self.second(first, (*children, first))
        first = self.first(x, self.project(bottom))
        return self.join(torch.cat([self.second(first, first), first, *children], 1))


class Enlarge(nn.ConvTranspose2d):
    """Bilinear upsampling as a depthwise transposed convolution, as the network begins its training."""

    def __init__(self, channels: int, factor: int) -> None:
        size = 2 * factor
        super().__init__(channels, channels, size, factor, factor // 2, groups=channels, bias=False)
        ramp = 1 - (torch.arange(size) / factor - (size - 1) / (2 * factor)).abs()
        self.weight.data.copy_(torch.outer(ramp, ramp).expand(channels, 1, size, size))


class Merge(nn.Module):
    """Brings a deeper layer to a shallower one's size and channels, and convolves the two together."""

    def __init__(self, deep: int, shallow: int, factor: int) -> None:
        super().__init__()
        self.project = Conv(deep, shallow, 1) if deep != shallow else nn.Identity()
        self.enlarge = Enlarge(shallow, factor) if factor > 1 else nn.Identity()
        self.join = Conv(2 * shallow, shallow)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        return self.join(torch.cat([shallow, self.enlarge(self.project(deep))], 1))


class CenterNet(nn.Module):
    """Input: float32 [batch,3,height,width], sides multiples of 32. Outputs at a quarter of them."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem = [max(4, int(c * width)) for c in (16, 16, 32)]
        wide = [max(4, int(c * width)) for c in (64, 128, 256, 512)]
        inner = max(4, int(256 * width))
        self.stem = nn.Sequential(Conv(3, stem[0], 7), Conv(stem[0], stem[1]), Conv(stem[1], stem[2], 3, 2))
        self.trees = nn.ModuleList(
            Tree(levels, before, after, 2, root=root)
            for levels, before, after, root in zip(
                (1, 2, 2, 1), (stem[2], *wide[:3]), wide, (False, True, True, True), strict=True
            )
        )
        self.merges = nn.ModuleList()
        channels, factors = list(wide), [1, 2, 4, 8]
        for low in (2, 1, 0):
            for deep in range(low + 1, 4):
                self.merges.append(Merge(channels[deep], channels[low], factors[deep] // factors[low]))
                channels[deep], factors[deep] = channels[low], factors[low]
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(Conv(wide[0], inner), nn.Conv2d(inner, count, 1))
                for name, (count, _, _) in HEADS.items()
            }
        )

    def features(self, image: Tensor) -> Tensor:
        """Iterative deep aggregation: deeper layers are merged into the shallow ones, down to a quarter of the size."""
        x, layers = self.stem(image), []
        for tree in self.trees:
            x = tree(x)
            layers.append(x)
        merges = iter(self.merges)
        for low in (2, 1, 0):
            y = layers[low]
            for deep in range(low + 1, 4):
                y = layers[deep] = next(merges)(y, layers[deep])
        return layers[-1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.features(image)
        hm = torch.sigmoid(self.heads["heat"](x))
        return hm, nn.functional.max_pool2d(hm, 3, 1, 1), self.heads["wh"](x), self.heads["reg"](x)


@torch.no_grad()
def settle(net: CenterNet, photos: Tensor) -> None:
    """Give every head the mean and spread of ``HEADS`` over the photos."""
    x = net.features(photos)
    for name, (_, mean, spread) in HEADS.items():
        found, last = net.heads[name](x), net.heads[name][-1]
        factor = spread / found.std((0, 2, 3)).clamp(min=1e-6)
        last.weight *= factor[:, None, None, None]
        last.bias.copy_((last.bias - found.mean((0, 2, 3))) * factor + mean)


def main() -> None:
    out, photos, width = sys.argv[1:]
    torch.manual_seed(0)
    images = torch.from_numpy(np.load(photos, allow_pickle=False))
    net = CenterNet(float(width))
    settle(net.eval(), images)
    torch.jit.trace(net, images[:1]).save(out)


if __name__ == "__main__":
    main()

"""MixVarGENet as plain data: which blocks, in which stages. Shared by the torch model and the ONNX builder.

A block is a 3x3 convolution that widens by ``factor`` (grouped by ``in_channels / group_base`` where a group base is
given), then a 1x1 convolution, with a shortcut around both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockKind:
    """``factor`` of the hidden channels; ``group_base`` channels a group of the 3x3 convolution (0: one group)."""

    factor: int
    group_base: int = 0


KINDS = {
    "mixvarge_f2": BlockKind(2),
    "mixvarge_f4": BlockKind(4),
    "mixvarge_f2_gb16": BlockKind(2, 16),
}


@dataclass(frozen=True)
class Stage:
    """Blocks at one resolution.

    Attributes:
        channels: Of everything the stage writes.
        head: Kind of the first block, which changes channels and resolution.
        stack: Kinds of the blocks after it.
        stride: Of the head.
        downsamples: Extra 3x3 convolutions of stride 2 after the stack.
        fusion: A 1x1 convolution over the results of head and stack together.
    """

    channels: int
    head: str
    stack: tuple[str, ...] = ()
    stride: int = 2
    downsamples: int = 0
    fusion: bool = False


@dataclass(frozen=True)
class Layout:
    """A whole network: a 3x3 stem of stride 2, the stages, a 1x1 convolution, pooling and the classifier."""

    stem: int
    stages: tuple[Stage, ...]
    head: int
    classes: int
    in_channels: int = 3


def mixvargenet(classes: int = 1000, head: int = 1024) -> Layout:
    """The network of J5's tutorial: results at strides 2, 4, 8, 16 and 32."""
    f2, f4, gb16 = KINDS
    return Layout(
        stem=32,
        stages=(
            Stage(32, f2, stride=1),
            Stage(32, f4, (f4,) * 2),
            Stage(64, f4, (f4,) * 2),
            Stage(96, gb16, (gb16,) * 6),
            Stage(160, gb16, (gb16,) * 2),
        ),
        head=head,
        classes=classes,
    )


@dataclass(frozen=True)
class Conv:
    """One convolution with what follows it.

    ``source`` and ``shortcut`` name earlier results; ``shortcut`` is added before the ReLU.
    """

    name: str
    source: str
    inputs: int
    outputs: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    relu: bool = True
    shortcut: str = ""


def convolutions(layout: Layout) -> Iterator[Conv]:
    """Every convolution in execution order; the last one's result is what is pooled."""
    yield Conv("stem", "input", layout.in_channels, layout.stem, 3, 2)
    at, channels = "stem", layout.stem
    for number, stage in enumerate(layout.stages, 1):
        results = []
        for index, kind in enumerate((stage.head, *stage.stack)):
            stride = stage.stride if index == 0 else 1
            name = f"stage{number}_{index}"
            yield from _block(name, at, KINDS[kind], channels, stage.channels, stride)
            at, channels = f"{name}_point", stage.channels
            results.append(at)
        if stage.fusion and len(results) > 1:
            yield Conv(f"stage{number}_fusion", "+".join(results), channels * len(results), channels)
            at = f"stage{number}_fusion"
        for extra in range(stage.downsamples):
            yield Conv(f"stage{number}_down{extra}", at, channels, channels, 3, 2)
            at = f"stage{number}_down{extra}"
    yield Conv("head", at, channels, layout.head)


def _block(name: str, source: str, kind: BlockKind, inputs: int, outputs: int, stride: int) -> Iterator[Conv]:
    shortcut = source
    if stride != 1 or inputs != outputs:
        shortcut = f"{name}_shortcut"
        yield Conv(shortcut, source, inputs, outputs, 3 if stride != 1 else 1, stride, relu=False)
    groups = inputs // kind.group_base if kind.group_base else 1
    hidden = inputs * kind.factor
    yield Conv(f"{name}_wide", source, inputs, hidden, 3, stride, groups)
    yield Conv(f"{name}_point", f"{name}_wide", hidden, outputs, shortcut=shortcut)

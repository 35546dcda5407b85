"""Makes the road-scene network and its data.

python examples/segmentation_mlu270/make.py [FOLDER] [--scenes 4]

The network is small and needs no training framework: a seeded convolutional pyramid whose first filters are patches
of the training scenes, and a 1x1 classifier fitted in closed form (ridge regression) on 40 generated scenes. That is
enough for a float mIoU that means something, and it is the same on every machine.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from road_scenes import CLASSES, SIZE, draw, write

FITTED = range(40)
CALIBRATION = range(1000, 1016)
EVALUATION = range(2000, 2016)
MEAN, STD = 120.0, 60.0
"""Of the 0..255 pixel."""
WIDTHS = (24, 48, 64, 96, 128)
"""Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size."""
SKIPS = 48
"""Channels each level hands to the classifier."""


class Builder:
    """An ONNX graph under construction, with seeded weights."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def op(self, kind: str, inputs: list[str], name: str, **attrs: object) -> str:
        """One node named like its output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attrs))
        return name

    def conv(self, x: str, name: str, shape: tuple[int, ...], *, stride: int = 1, group: int = 1) -> str:
        """Convolution, bias and ReLU; weights of unit gain unless they are given already."""
        fan = int(np.prod(shape[1:]))
        self.weights.setdefault(f"{name}.w", self.rng.normal(0, np.sqrt(2 / fan), shape).astype(np.float32))
        self.weights.setdefault(f"{name}.b", self.rng.normal(0, 0.1, shape[0]).astype(np.float32))
        pad = shape[-1] // 2
        y = self.op("Conv", [x, f"{name}.w", f"{name}.b"], name, strides=[stride] * 2, pads=[pad] * 4, group=group)
        return self.op("Relu", [y], f"{name}.relu")

    def model(self, output: str, channels: int, size: int, scale: int = 1) -> onnx.ModelProto:
        """The finished graph for a square picture of ``size``."""
        graph = helper.make_graph(
            self.nodes,
            "roadscene",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, channels, size // scale, size // scale])],
            [numpy_helper.from_array(v, n) for n, v in self.weights.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def pixels(picture: np.ndarray) -> np.ndarray:
    """float32 (1, 3, h, w), as the recipe's preprocessing makes it."""
    return ((picture.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)[None]


def first_filters(builder: Builder, count: int) -> np.ndarray:
    """5x5 filters that are patches of scenes, of zero mean and equal norm, and their opposites."""
    patches = []
    for seed in FITTED[:8]:
        x = pixels(draw(seed)[0])[0]
        for _ in range(count // 8 + 1):
            top, left = builder.rng.integers(0, SIZE - 5, 2)
            patch = x[:, top : top + 5, left : left + 5]
            patch = patch - 0.9 * patch.mean()
            patches.append(patch / (np.linalg.norm(patch) + 1e-3))
    half = np.array(patches[: (count + 1) // 2])
    return (np.concatenate([half, -half])[:count] * 0.5).astype(np.float32)


def features(builder: Builder) -> tuple[str, int]:
    """The pyramid: its levels, projected and brought to a quarter of the size; name and channels of the result."""
    builder.weights["stem.w"] = first_filters(builder, WIDTHS[0])
    x = builder.conv("input", "stem", (WIDTHS[0], 3, 5, 5), stride=2)
    levels = []
    for at, (before, after) in enumerate(pairwise(WIDTHS)):
        if at == 0:
            x = builder.conv(x, "level0", (after, before, 3, 3), stride=2)
        else:
            x = builder.conv(x, f"level{at}.depthwise", (before, 1, 3, 3), stride=2, group=before)
            x = builder.conv(x, f"level{at}", (after, before, 1, 1))
        skip = builder.conv(x, f"skip{at}", (SKIPS, after, 1, 1))
        if at:
            scales = f"scales{at}"
            builder.weights[scales] = np.array([1, 1, 2**at, 2**at], np.float32)
            skip = builder.op(
                "Resize",
                [skip, "", scales],
                f"up{at}",
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        levels.append(skip)
    return builder.op("Concat", levels, "features", axis=1), SKIPS * len(levels)


def fit(builder: Builder, name: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of the classifier: ridge regression on one-hot masks, rare classes weighted up."""
    session = onnxruntime.InferenceSession(builder.model(name, channels, SIZE, 4).SerializeToString())
    gram, target = np.zeros((channels + 1, channels + 1)), np.zeros((channels + 1, len(CLASSES)))
    counts = np.bincount(np.concatenate([draw(s)[1].ravel() for s in FITTED[:10]]), minlength=len(CLASSES))
    weight = np.sqrt(counts.sum() / (len(CLASSES) * np.maximum(counts, 1)))
    for seed in FITTED:
        picture, mask = draw(seed)
        (found,) = session.run(None, {"input": pixels(picture)})
        x = np.concatenate([found[0].reshape(channels, -1), np.ones((1, found[0][0].size), np.float32)])
        labels = mask[2::4, 2::4].ravel()
        weighted = x * weight[labels]
        gram += weighted @ x.T
        for kind in range(len(CLASSES)):
            target[:, kind] += weighted[:, labels == kind].sum(axis=1)
    solution = np.linalg.solve(gram + 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram)), target)
    return solution[:-1].T.astype(np.float32)[..., None, None], solution[-1].astype(np.float32)


def network() -> onnx.ModelProto:
    """1x3x480x480 to 1x7x480x480 class scores."""
    builder = Builder()
    name, channels = features(builder)
    builder.weights["classifier.w"], builder.weights["classifier.b"] = fit(builder, name, channels)
    scores = builder.op("Conv", [name, "classifier.w", "classifier.b"], "classifier")
    builder.weights["four"] = np.array([1, 1, 4, 4], np.float32)
    out = builder.op(
        "Resize", [scores, "", "four"], "scores", mode="linear", coordinate_transformation_mode="half_pixel"
    )
    return builder.model(out, len(CLASSES), SIZE)


def make(folder: Path, scenes: int = 16) -> None:
    """Write the network, and ``scenes`` scenes each to calibrate and to evaluate on."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(network(), str(folder / "roadscene.onnx"))
    write(folder / "calibration", CALIBRATION[:scenes])
    write(folder / "evaluation", EVALUATION[:scenes])
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent / "work")
    parser.add_argument("--scenes", type=int, default=len(EVALUATION))
    given = parser.parse_args()
    make(given.folder, given.scenes)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    main()

"""SSD300 on VGG-16 as Caffe files: the definition in text, seeded weights in protobuf's wire format.

Layers, names and sizes are those of the public SSD300 for PASCAL VOC (arXiv:1512.02325; ssd_pascal.py of the SSD fork).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CLASSES = 21
"""VOC's 20 and the background."""

# Source layer, channels, priors a cell, smallest and largest side, aspect ratios, step.
_HEADS = (
    ("conv4_3_norm", 4, 30, 60, (2,), 8),
    ("fc7", 6, 60, 111, (2, 3), 16),
    ("conv6_2", 6, 111, 162, (2, 3), 32),
    ("conv7_2", 6, 162, 213, (2, 3), 64),
    ("conv8_2", 4, 213, 264, (2,), 100),
    ("conv9_2", 4, 264, 315, (2,), 300),
)


@dataclass
class CaffeNet:
    """A network under construction."""

    seed: int = 0
    width: float = 1.0
    text: str = ""
    blobs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=lambda: {"data": 3})

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def layer(self, kind: str, name: str, bottoms: list[str], top: str = "", body: str = "") -> str:
        """One layer; gives its top."""
        ins = " ".join(f'bottom: "{b}"' for b in bottoms)
        self.text += f'layer {{ name: "{name}" type: "{kind}" {ins} top: "{top or name}" {body} }}\n'
        return top or name

    def scaled(self, channels: int) -> int:
        """Channels at this width, at least 4."""
        return max(4, int(channels * self.width))

    def conv(
        self, x: str, name: str, out: int, kernel: int = 3, pad: int = 1, stride: int = 1, dilation: int = 1
    ) -> str:
        """Convolution, He's initialisation."""
        fan = self.channels[x] * kernel * kernel
        weight = self.rng.normal(0, (2 / fan) ** 0.5, (out, self.channels[x], kernel, kernel))
        self.blobs[name] = [weight.astype(np.float32), np.zeros(out, np.float32)]
        self.channels[name] = out
        body = f"num_output: {out} kernel_size: {kernel} pad: {pad} stride: {stride} dilation: {dilation}"
        return self.layer("Convolution", name, [x], body=f"convolution_param {{ {body} }}")

    def relu(self, x: str) -> str:
        """In place."""
        return self.layer("ReLU", f"relu_{x}", [x], x)

    def pool(self, x: str, name: str, kernel: int = 2, stride: int = 2, pad: int = 0) -> str:
        """Maximum; Caffe rounds its size up."""
        self.channels[name] = self.channels[x]
        body = f"pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad}"
        return self.layer("Pooling", name, [x], body=f"pooling_param {{ {body} }}")


def ssd300(*, seed: int = 0, width: float = 1.0) -> CaffeNet:
    """The network; ``width`` is a factor on the channels."""
    net = CaffeNet(seed, width)
    net.text = 'name: "SSD300"\nlayer { name: "data" type: "Input" top: "data" input_param { shape '
    net.text += "{ dim: 1 dim: 3 dim: 300 dim: 300 } } }\n"
    x = "data"
    for stage, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for at in range(1, count + 1):
            x = net.relu(net.conv(x, f"conv{stage}_{at}", net.scaled(channels)))
        x = net.pool(x, f"pool{stage}") if stage < 5 else net.pool(x, "pool5", 3, 1, 1)
    net.blobs["conv4_3_norm"] = [np.full(net.channels["conv4_3"], 20, np.float32)]
    net.channels["conv4_3_norm"] = net.channels["conv4_3"]
    net.layer(
        "Normalize", "conv4_3_norm", ["conv4_3"], body="norm_param { across_spatial: false channel_shared: false }"
    )
    x = net.relu(net.conv(x, "fc6", net.scaled(1024), 3, 6, dilation=6))
    x = net.relu(net.conv(x, "fc7", net.scaled(1024), 1, 0))
    for stage, (inner, outer, pad, stride) in enumerate(
        ((256, 512, 1, 2), (128, 256, 1, 2), (128, 256, 0, 1), (128, 256, 0, 1)), 6
    ):
        x = net.relu(net.conv(x, f"conv{stage}_1", net.scaled(inner), 1, 0))
        x = net.relu(net.conv(x, f"conv{stage}_2", net.scaled(outer), 3, pad, stride))
    _heads(net)
    return net


def _heads(net: CaffeNet) -> None:
    parts: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for source, priors, low, high, ratios, step in _HEADS:
        for part, each in (("loc", 4), ("conf", CLASSES)):
            name = net.conv(source, f"{source}_mbox_{part}", priors * each)
            turned = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
            net.layer("Permute", f"{name}_perm", [name], body=turned)
            parts[part].append(net.layer("Flatten", f"{name}_flat", [f"{name}_perm"], body="flatten_param { axis: 1 }"))
        aspects = " ".join(f"aspect_ratio: {r}" for r in ratios)
        body = f"min_size: {low} max_size: {high} {aspects} flip: true clip: false step: {step} offset: 0.5 "
        body += "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
        made = net.layer("PriorBox", f"{source}_mbox_priorbox", [source, "data"], body=f"prior_box_param {{ {body} }}")
        parts["priorbox"].append(made)
    for part, axis in (("loc", 1), ("conf", 1), ("priorbox", 2)):
        net.layer("Concat", f"mbox_{part}", parts[part], body=f"concat_param {{ axis: {axis} }}")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }}"
    net.layer("Reshape", "mbox_conf_reshape", ["mbox_conf"], body=shape)
    net.layer("Softmax", "mbox_conf_softmax", ["mbox_conf_reshape"], body="softmax_param { axis: 2 }")
    net.layer("Flatten", "mbox_conf_flatten", ["mbox_conf_softmax"], body="flatten_param { axis: 1 }")
    body = f"num_classes: {CLASSES} share_location: true background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 200 "
    body += "confidence_threshold: 0.01 nms_param { nms_threshold: 0.45 top_k: 400 }"
    bottoms = ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"]
    net.layer("DetectionOutput", "detection_out", bottoms, body=f"detection_output_param {{ {body} }}")


def head_layers() -> list[str]:
    """The convolutions that give offsets and class scores."""
    return [f"{source}_mbox_{part}" for source, *_ in _HEADS for part in ("loc", "conf")]


def settle(net: CaffeNet, seen: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Scale every head, in place, to the range of a trained one: small offsets, background nearly everywhere.

    Args:
        net: Of :func:`ssd300`.
        seen: Mean and standard deviation by channel of each of :func:`head_layers`, measured on photographs.
    """
    for name in head_layers():
        mean, spread = seen[name]
        weight, bias = net.blobs[name]
        factor = (0.5 if name.endswith("loc") else 1.5) / np.maximum(spread, 1e-6)
        new_bias = (bias - mean) * factor
        if name.endswith("conf"):
            new_bias[::CLASSES] += 6.0
        net.blobs[name] = [(weight * factor[:, None, None, None]).astype(np.float32), new_bias.astype(np.float32)]


def caffemodel(blobs: Mapping[str, list[np.ndarray]]) -> bytes:
    """NetParameter (caffe.proto): field 100 a layer, in it field 1 the name and field 7 a blob each."""
    made = bytearray()
    for name, arrays in blobs.items():
        inner = _field(1, name.encode())
        for array in arrays:
            shape = _field(1, b"".join(_varint(d) for d in array.shape))
            inner += _field(7, _field(7, shape) + _field(5, array.astype("<f4").tobytes()))
        made += _field(100, inner)
    return bytes(made)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])

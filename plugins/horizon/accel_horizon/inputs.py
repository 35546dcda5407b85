"""What the chip is fed: tensors (``featuremap``) or pictures (``rgb``, ``bgr``, ``gray``, ``nv12``) with mean and
scale inside the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from accel.errors import AccelError
from accel.model import Model, TensorSpec
from accel.options import BuildOptions

if TYPE_CHECKING:
    import numpy as np

PICTURES = ("rgb", "bgr", "gray", "nv12")


@dataclass(frozen=True)
class ChipInput:
    """One input of the compiled network.

    Attributes:
        name: As in the model.
        shape: Of the model's input, NCHW.
        rt_type: What the chip is fed: ``featuremap`` or one of ``PICTURES``.
        train_type: What the model was trained with: ``featuremap``, ``rgb``, ``bgr`` or ``gray``.
        layout: Of what the chip is fed.
        mean: Per channel, in pixel units (0..255): ``(pixel - mean) * scale``.
        scale: Per channel.
    """

    name: str
    shape: tuple[int, ...]
    rt_type: str = "featuremap"
    train_type: str = "featuremap"
    layout: str = "NCHW"
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the job and the manifest."""
        return asdict(self)

    @staticmethod
    def from_dict(made: Mapping[str, Any]) -> ChipInput:
        """What :meth:`as_dict` gave, JSON between."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in made.items()}
        return ChipInput(**values)


def chip_inputs(model: Model, options: BuildOptions, rt_type: str) -> dict[str, ChipInput]:
    """The inputs of ``model`` (of known shape) as the chip will be fed.

    Args:
        model: Static shapes.
        options: ``preprocessing`` gives colour order, mean, std and scale.
        rt_type: ``featuremap`` or one of ``PICTURES``.

    Raises:
        AccelError: ``usage.input_type`` where a picture type does not fit the model or its preprocessing.
    """
    made = {}
    for spec in model.inputs:
        shape = tuple(int(d) for d in spec.shape)
        made[spec.name] = (
            ChipInput(spec.name, shape)
            if rt_type == "featuremap"
            else _picture(spec, shape, options, rt_type, len(model.inputs))
        )
    return made


def _picture(spec: TensorSpec, shape: tuple[int, ...], options: BuildOptions, rt_type: str, count: int) -> ChipInput:
    preprocessing = options.preprocessing
    problem = ""
    if preprocessing is None:
        problem = "the preprocessing (mean, std, colour order) is not known"
    elif preprocessing.layout != "NCHW":
        problem = "the model's layout is NHWC; only NCHW networks take pictures"
    elif count != 1:
        problem = f"the model has {count} inputs"
    elif len(shape) != 4 or shape[1] != (1 if rt_type == "gray" else 3):
        problem = f"its input {spec} has not the channels of a {rt_type} picture"
    elif (preprocessing.color == "gray") != (rt_type == "gray"):
        problem = f"the model was trained with {preprocessing.color} pictures"
    elif rt_type == "nv12" and (shape[2] % 2 or shape[3] % 2):
        problem = "NV12 wants an even height and width"
    if problem or preprocessing is None:
        raise AccelError(
            f"the network cannot be fed {rt_type} pictures",
            code="usage.input_type",
            cause=problem,
            hints=["Feed tensors: --set input_type=featuremap (the default)."],
        )
    # Ours: (pixel * scale - mean) / std; theirs: (pixel - mean) * scale.
    channels = shape[1]
    mean = _per_channel(preprocessing.mean, channels)
    std = _per_channel(preprocessing.std, channels)
    return ChipInput(
        name=spec.name,
        shape=shape,
        rt_type=rt_type,
        train_type=preprocessing.color,
        layout="NCHW" if rt_type == "gray" else "NHWC",
        mean=tuple(m / preprocessing.scale for m in mean),
        scale=tuple(preprocessing.scale / s for s in std),
    )


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def to_chip(pixels: np.ndarray, given: ChipInput, *, integer: bool) -> np.ndarray:
    """The bytes the chip is fed for a picture.

    Args:
        pixels: float32 NCHW, 0..255, colour order of ``given.train_type``.
        given: The input.
        integer: int8 in the chip's layout (quantised network and chip); else float32 NCHW in the same units
            (the network's float stages).

    Returns:
        Values minus 128, int8 or float32.
    """
    import numpy as np

    if given.rt_type == "nv12":
        planes = _yuv444_through_nv12(pixels if given.train_type == "rgb" else pixels[:, ::-1])
    elif given.rt_type in ("rgb", "bgr") and given.rt_type != given.train_type:
        planes = pixels[:, ::-1]
    else:
        planes = pixels
    centred = np.clip(np.rint(planes), 0, 255) - 128
    if not integer:
        return np.ascontiguousarray(centred, dtype=np.float32)
    if given.layout == "NHWC":
        centred = centred.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(centred, dtype=np.int8)


def _yuv444_through_nv12(rgb: np.ndarray) -> np.ndarray:
    """RGB to YUV (BT.601, full range) with chroma kept at half the resolution, as NV12 does."""
    import numpy as np

    r, g, b = (rgb[:, c] for c in range(3))
    # ITU-T T.871 (JFIF), the full-range form of BT.601.
    y = 0.299 * r + 0.587 * g + 0.114 * b
    u = -0.168736 * r - 0.331264 * g + 0.5 * b + 128
    v = 0.5 * r - 0.418688 * g - 0.081312 * b + 128

    def halved(plane: np.ndarray) -> np.ndarray:
        n, h, w = plane.shape
        small = np.rint(plane.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4)))
        return np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)

    return np.stack([y, halved(u), halved(v)], axis=1)

"""The parameters of a detection head that was cut off: boxes are decoded on the host, and this says how."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from accel.errors import AccelError

if TYPE_CHECKING:
    import numpy as np

    from accel.model import Model

KEY = "accel.detection"
"""Where :attr:`accel.model.Model.metadata` holds the head, as JSON."""


@dataclass(frozen=True)
class DetectionHead:
    """An SSD head: outputs of the network on one side, priors and rules on the other.

    Attributes:
        location: Output with box offsets, [batch, priors * 4] (times classes unless ``share_location``).
        confidence: Output with class scores after softmax, [batch, priors * classes].
        classes: Number of classes, background included.
        background: Index of the background class; -1: none.
        share_location: One box a prior for all classes.
        code: How offsets become boxes (``center_size``, ``corner``, ``corner_size``; SSD paper, section 2.2).
        variance_in_target: Offsets are already divided by the variances.
        nms_threshold: Overlap (IoU) from which the weaker of two boxes goes.
        nms_top_k: Best boxes of a class that are looked at; -1: all.
        nms_eta: Factor on the threshold after each kept box, 1: none.
        keep_top_k: Boxes kept a picture; -1: all.
        confidence_threshold: Least score.
        priors: [priors, 4] float32: xmin, ymin, xmax, ymax as fractions of the picture.
        variances: [priors, 4] float32.
    """

    location: str
    confidence: str
    classes: int
    background: int
    share_location: bool
    code: Literal["center_size", "corner", "corner_size"]
    variance_in_target: bool
    nms_threshold: float
    nms_top_k: int
    nms_eta: float
    keep_top_k: int
    confidence_threshold: float
    priors: np.ndarray
    variances: np.ndarray

    def to_json(self) -> str:
        """As text; arrays are base64 of deflated little-endian float32."""
        fields = asdict(self)
        fields["kind"] = "ssd"
        for name in ("priors", "variances"):
            data = fields[name].astype("<f4").tobytes()
            fields[name] = base64.b64encode(zlib.compress(data, 9)).decode("ascii")
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DetectionHead:
        """The head that :meth:`to_json` wrote.

        Raises:
            AccelError: ``model.detection`` when the text is something else.
        """
        import numpy as np

        try:
            fields = json.loads(text)
            if fields.pop("kind") != "ssd":
                raise ValueError("not an SSD head")
            for name in ("priors", "variances"):
                data = zlib.decompressobj().decompress(base64.b64decode(fields[name]), 2**26)
                fields[name] = np.frombuffer(data, "<f4").reshape(-1, 4)
            return DetectionHead(**fields)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise AccelError(
                "the model's detection head is not readable", code="model.detection", cause=str(error)
            ) from error


def detection_head(model: Model) -> DetectionHead | None:
    """The head that was cut off ``model``; None if there was none."""
    text = model.metadata.get(KEY)
    return DetectionHead.from_json(text) if text else None

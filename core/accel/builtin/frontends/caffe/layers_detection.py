"""SSD's own layers: prior boxes become constants, the detection output is left to the host or written as NMS."""

from __future__ import annotations

import math
from typing import Literal, cast

import numpy as np

from accel.builtin.frontends.caffe.net import Layer, Net, converts
from accel.builtin.frontends.detection import KEY, DetectionHead

_MOST_PRIORS = 2**22


@converts("PriorBox")
def prior_box(net: Net, layer: Layer, inputs: list[str]) -> None:
    """Default boxes of every cell of the first input, in fractions of the second one's size; then their variances."""
    given = layer.param("prior_box_param")
    height, width = net.shapes[inputs[0]][2:4]
    img_h, img_w = net.shapes[inputs[1]][2:4]
    if given.has("img_size"):
        img_h = img_w = given.integer("img_size")
    img_h, img_w = given.integer("img_h", img_h), given.integer("img_w", img_w)
    step = given.number("step")
    step_h, step_w = given.number("step_h", step), given.number("step_w", step)
    if step_h <= 0 or step_w <= 0:
        step_h, step_w = img_h / height, img_w / width
    smallest, largest = given.numbers("min_size"), given.numbers("max_size")
    if not smallest or (largest and len(largest) != len(smallest)):
        raise layer.error(f"{len(smallest)} min_size and {len(largest)} max_size do not go together")
    sizes = _box_sizes(smallest, largest, _ratios(given.numbers("aspect_ratio"), flip=given.flag("flip", True)))
    if height * width * len(sizes) > _MOST_PRIORS:
        raise layer.error(f"{height * width * len(sizes)} prior boxes are more than any detector has")
    offset = given.number("offset", 0.5)
    x = (np.arange(width, dtype=np.float32) + np.float32(offset)) * np.float32(step_w)
    y = (np.arange(height, dtype=np.float32) + np.float32(offset)) * np.float32(step_h)
    center = np.stack(np.broadcast_arrays(x[None, :, None], y[:, None, None]), -1)
    half = sizes[None, None] / np.float32(2)
    size = np.array([img_w, img_h], np.float32)
    boxes = np.concatenate([(center - half) / size, (center + half) / size], -1).astype(np.float32)
    if given.flag("clip"):
        boxes = boxes.clip(0, 1)
    variance = np.array(given.numbers("variance") or [0.1], np.float32)
    if len(variance) not in (1, 4):
        raise layer.error(f"it has {len(variance)} variances, 1 or 4 are known")
    spread = np.broadcast_to(variance, (boxes.size // 4, 4)).reshape(-1)
    name = net.name(f"{layer.name}.value")
    net.values[name] = np.stack([boxes.reshape(-1), spread])[None]
    net.shapes[name] = net.values[name].shape
    net.set(layer.tops[0], name)


def _ratios(given: list[float], *, flip: bool) -> list[float]:
    """Aspect ratios besides 1, each once, with their inverses if asked for."""
    found = [1.0]
    for ratio in given:
        if all(abs(ratio - known) >= 1e-6 for known in found):
            found.append(ratio)
            if flip:
                found.append(1 / ratio)
    return found[1:]


def _box_sizes(smallest: list[float], largest: list[float], ratios: list[float]) -> np.ndarray:
    """(width, height) in pixels of the boxes of one cell, in SSD's order."""
    sizes: list[tuple[float, float]] = []
    for at, small in enumerate(smallest):
        sizes.append((small, small))
        if largest:
            sizes.append((math.sqrt(small * largest[at]),) * 2)
        sizes += [(small * math.sqrt(r), small / math.sqrt(r)) for r in ratios]
    return np.array(sizes, np.float32)


@converts("DetectionOutput")
def detection_output(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("detection_output_param")
    given.seen.update(("save_output_param", "visualize", "visualize_threshold", "save_file"))
    nms = given.message("nms_param")
    if len(inputs) != 3 or inputs[2] not in net.values:
        raise layer.error("it needs locations, confidences and prior boxes, and nothing else")
    priors, variances = net.values[inputs[2]].reshape(2, -1, 4)
    classes, shared = given.integer("num_classes"), given.flag("share_location", True)
    for name, last in ((inputs[0], 4 * (1 if shared else classes)), (inputs[1], classes)):
        if math.prod(net.shapes[name][1:]) != len(priors) * last:
            raise layer.error(f"input {name!r} of {list(net.shapes[name])} does not fit {len(priors)} prior boxes")
    code = given.text("code_type", "CORNER")
    codes = {"CORNER": "corner", "1": "corner", "CENTER_SIZE": "center_size", "2": "center_size"}
    codes |= {"CORNER_SIZE": "corner_size", "3": "corner_size"}
    if code not in codes:
        raise layer.error(f"unknown code type {code}")
    head = DetectionHead(
        location=inputs[0],
        confidence=inputs[1],
        classes=classes,
        background=given.integer("background_label_id", 0),
        share_location=shared,
        code=cast("Literal['center_size', 'corner', 'corner_size']", codes[code]),
        variance_in_target=given.flag("variance_encoded_in_target"),
        nms_threshold=nms.number("nms_threshold", 0.3),
        nms_top_k=nms.integer("top_k", -1),
        nms_eta=nms.number("eta", 1.0),
        keep_top_k=given.integer("keep_top_k", -1),
        confidence_threshold=given.number("confidence_threshold", 0.0),
        priors=priors,
        variances=variances,
    )
    if net.detection_in_graph:
        _in_graph(net, layer, head)
        return
    if KEY in net.metadata:
        raise layer.error("a second detection output", hints=["Cut the network with --output."])
    net.metadata[KEY] = head.to_json()
    net.exact.update(inputs[:2])
    # The cut: what the layer would have read stays an output.
    for bottom in layer.bottoms[:2]:
        net.read.discard(bottom)
    net.notes.append(
        f"layer {layer.name!r} (DetectionOutput) is left to the host: the outputs are {inputs[0]} and {inputs[1]}"
    )


def _in_graph(net: Net, layer: Layer, head: DetectionHead) -> None:
    """[1, 1, boxes, 7]: picture, class, score, xmin, ymin, xmax, ymax, best first; batch 1."""
    if head.code != "center_size" or not head.share_location or head.nms_eta != 1:
        raise layer.error("only center_size boxes shared by all classes can be written as NMS in the graph")
    net.batch_is_free = False
    count, classes = len(head.priors), head.classes
    if net.shapes[head.location][0] != 1:
        raise layer.error("detection in the graph needs batch 1")
    boxes = _decoded(net, head, count)
    scores = net.reshape(head.confidence, (1, count, classes))
    scores = net.node("Transpose", [scores], (1, classes, count), perm=[0, 2, 1])
    if head.background >= 0:  # a class whose scores are below every threshold
        keep = np.ones((1, classes, 1), np.float32)
        keep[0, head.background] = 0
        scores = net.node("Mul", [scores, net.constant(keep, "foreground")], (1, classes, count))
    limit = head.nms_top_k if head.nms_top_k > 0 else count
    given = [
        net.constant(np.array([limit], np.int64), "top_k"),
        net.constant(np.array([head.nms_threshold], np.float32), "overlap"),
        net.constant(np.array([max(head.confidence_threshold, 1e-9)], np.float32), "score"),
    ]
    picked = net.node("NonMaxSuppression", [boxes, scores, *given], (-1, 3), center_point_box=0)
    # Rows of (picture, class, box) to scores and corners.
    label = _column(net, picked, 1)
    index = _column(net, picked, 2)
    at = net.node("Concat", [label, index], (-1, 2), axis=1)
    flat = net.node("Squeeze", [scores, net.constant(np.array([0], np.int64), "axis")], (classes, count))
    score = net.node("GatherND", [flat, at], (-1,))
    keep_k = head.keep_top_k if head.keep_top_k > 0 else count * classes
    found = net.node("Shape", [score], (1,))
    most = net.node("Min", [found, net.constant(np.array([keep_k], np.int64), "keep")], (1,))
    values = net.node("TopK", [score, most], (-1,), axis=0)
    order = net.name(f"{layer.name}.order")
    net.nodes[-1].output.append(order)
    rows = net.node("Gather", [at, order], (-1, 2), axis=0)
    kept = net.node("Cast", [_column(net, rows, 0)], (-1, 1), to=1)
    plain = net.node("Squeeze", [boxes, net.constant(np.array([0], np.int64), "axis")], (count, 4))
    last = net.node("Squeeze", [_column(net, rows, 1), net.constant(np.array([1], np.int64), "axis")], (-1,))
    corners = net.node("Gather", [plain, last], (-1, 4), axis=0)
    swap = net.constant(np.array([1, 0, 3, 2], np.int64), "xy")
    corners = net.node("Gather", [corners, swap], (-1, 4), axis=1)
    column = net.node("Unsqueeze", [values, net.constant(np.array([1], np.int64), "axis")], (-1, 1))
    picture = net.node("Mul", [kept, net.constant(np.float32(0), "zero")], (-1, 1))
    table = net.node("Concat", [picture, kept, column, corners], (-1, 7), axis=1)
    out = net.node("Unsqueeze", [table, net.constant(np.array([0, 1], np.int64), "axes")], (1, 1, -1, 7))
    net.set(layer.tops[0], out)


def _decoded(net: Net, head: DetectionHead, count: int) -> str:
    """[1, priors, 4] boxes as (ymin, xmin, ymax, xmax), the order of ONNX's NonMaxSuppression."""
    low, high = head.priors[:, :2], head.priors[:, 2:]
    size, center = high - low, (low + high) / 2
    variance = np.ones_like(head.variances) if head.variance_in_target else head.variances
    offsets = net.reshape(head.location, (1, count, 4))
    parts = net.node("Split", [offsets, net.constant(np.array([2, 2], np.int64), "sizes")], (1, count, 2), axis=2)
    extent = net.name(f"{offsets}.size")
    net.nodes[-1].output.append(extent)
    shape = (1, count, 2)
    moved = net.node("Mul", [parts, net.constant((variance[:, :2] * size)[None], "move")], shape)
    moved = net.node("Add", [moved, net.constant(center[None], "center")], shape)
    grown = net.node("Exp", [net.node("Mul", [extent, net.constant(variance[None, :, 2:], "grow")], shape)], shape)
    half = net.node("Mul", [grown, net.constant((size / 2)[None], "half")], shape)
    corners = [net.node(op, [moved, half], shape) for op in ("Sub", "Add")]
    joined = net.node("Concat", corners, (1, count, 4), axis=2)
    return net.node("Gather", [joined, net.constant(np.array([1, 0, 3, 2], np.int64), "yx")], (1, count, 4), axis=2)


def _column(net: Net, table: str, at: int) -> str:
    names = [net.constant(np.array([v], np.int64), label) for v, label in ((at, "from"), (at + 1, "to"), (1, "axis"))]
    return net.node("Slice", [table, *names], (-1, 1))

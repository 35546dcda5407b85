"""Caffe to ONNX: a ``.prototxt`` and its ``.caffemodel``, read by our own code. No Caffe is needed."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel.builtin.frontends.caffe.caffemodel import Blob, read_caffemodel
from accel.builtin.frontends.caffe.net import CONVERTERS, Layer, Net, Shape
from accel.builtin.frontends.caffe.prototxt import Message, read_prototxt
from accel.errors import AccelError
from accel.model import VENDOR_TENSORS

if TYPE_CHECKING:
    import onnx

    from accel.model import Model
    from accel.options import ParseOptions

# Layers that feed data or measure: they have no place in a deployed network.
_DATA = frozenset({"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "AnnotatedData", "DummyData"})
_MEASURE = frozenset(
    {"Accuracy", "EuclideanLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss", "HingeLoss", "ContrastiveLoss"}
    | {"InfogainLoss", "MultinomialLogisticLoss", "MultiBoxLoss", "DetectionEvaluate", "HDF5Output"}
)
# V1 layer types (enumeration names of V1LayerParameter) whose new name is not the old one in camel case.
_V1 = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MVN": "MVN",
    "PRELU": "PReLU",
    "RELU": "ReLU",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
_IGNORED = frozenset(
    {"name", "type", "bottom", "top", "param", "include", "exclude", "phase", "loss_weight", "propagate_down"}
    | {"blobs_lr", "weight_decay", "loss_param", "transform_param", "blobs"}
)


def parse(source: Path, options: ParseOptions) -> Model:
    """Read a Caffe network. ``options.weights`` is the caffemodel; by default the one beside the definition.

    ``options.extra["detection"]``: ``host`` (default) cuts a DetectionOutput off and keeps its parameters in the
    model's metadata, ``graph`` writes it with ONNX's NonMaxSuppression.

    Raises:
        AccelError: ``model.prototxt``, ``model.caffemodel``, ``model.caffe`` (a layer that does not fit, by name and
            line), ``unsupported.op`` for an unknown layer type.
    """
    from accel.builtin.frontends.checked import checked_model

    definition, weights = _files(source, options)
    unchanged = options.frontend == "vendor"
    if unchanged and options.renames:
        raise AccelError("with --frontend vendor inputs keep their names", code="usage.frontend")
    text = read_prototxt(definition)
    net = build(text, read_caffemodel(weights), options)
    if unchanged:
        net.metadata[VENDOR_TENSORS] = json.dumps(net.written, sort_keys=True)
    proto = net.model(options.name or text.text("name") or definition.stem, free_batch=not options.input_shapes)
    model = checked_model(
        proto,
        _rest(options),
        name=options.name or text.text("name") or definition.stem,
        sources=(definition, weights),
        notes=tuple(net.notes),
    )
    _check_shapes(net, proto)
    return replace(model, vendor_reads=unchanged)


def _files(source: Path, options: ParseOptions) -> tuple[Path, Path]:
    pair = [source] + ([options.weights] if options.weights else [])
    definition = next((p for p in pair if p.suffix.lower() in (".prototxt", ".pt", ".txt")), None)
    weights = next((p for p in pair if p.suffix.lower() == ".caffemodel"), None)
    definition = definition or (source if weights != source else source.with_suffix(".prototxt"))
    weights = weights or definition.with_suffix(".caffemodel")
    for path, what in ((definition, "definition"), (weights, "weights")):
        if not path.is_file():
            raise AccelError(
                f"no such Caffe {what}: {path}",
                code="usage.source",
                hints=["Give both files: accel parse NET.prototxt --weights NET.caffemodel"],
            )
    return definition, weights


def _rest(options: ParseOptions) -> ParseOptions:
    """The options that are left for the ONNX graph: the shapes are in it already, save names the batch."""
    # Where the vendor reads the files, each of its values must have its tensor here: nothing is merged.
    simplify = options.simplify and options.frontend != "vendor"
    return replace(options, input_shapes={}, simplify=simplify)


def build(text: Message, weights: dict[str, list[Blob]], options: ParseOptions) -> Net:
    """The network of a definition with its weights; see :func:`parse` for options and errors."""
    # The converters register themselves.
    from accel.builtin.frontends.caffe import (  # noqa: F401
        layers_detection,
        layers_pointwise,
        layers_shape,
        layers_spatial,
    )

    layers = _layers(text)
    net = Net()
    net.detection_in_graph = options.extra.get("detection", "host") == "graph"
    shapes = dict(options.input_shapes)
    _declare_inputs(text, layers, net, shapes)
    for index, layer in enumerate(layers):
        for top in layer.tops:
            net.reserved[top] = index
    net.taken.update(net.inputs)
    for index, layer in enumerate(layers):
        _convert(net, layer, index, weights)
    if shapes:
        known = ", ".join(net.inputs) or "none"
        raise AccelError(
            f"the network has no input {next(iter(shapes))!r}", code="usage.input", hints=[f"Its inputs: {known}."]
        )
    if not net.nodes:
        raise AccelError("the definition has no layers that compute anything", code="model.prototxt")
    return net


def _layers(text: Message) -> list[Layer]:
    """The layers of the test phase, old ones under their new names."""
    old = text.messages("layers")
    if text.has("layer") and old:
        raise AccelError("the definition mixes `layer` and `layers`", code="model.prototxt")
    found = []
    for message in old or text.messages("layer"):
        if message.has("layer"):
            raise AccelError(
                f"line {message.line}: a definition of the oldest kind (V0)",
                code="unsupported.prototxt",
                hints=["Upgrade it with Caffe's upgrade_net_proto_text."],
            )
        kind = message.text("type")
        if old and kind.isupper():
            kind = _V1.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
        if _in_test_phase(message):
            names = [message.text("name"), message.texts("bottom"), message.texts("top")]
            found.append(Layer(str(names[0]), kind, message.line, list(names[1]), list(names[2]), message))
    return found


def _in_test_phase(message: Message) -> bool:
    if message.text("phase", "TEST") in ("TRAIN", "0"):
        return False

    def meets(rule: Message) -> bool:
        phase = rule.text("phase", "TEST") in ("TEST", "1")
        return phase and not rule.texts("stage") and rule.integer("min_level", 0) <= 0

    include, exclude = message.messages("include"), message.messages("exclude")
    return any(map(meets, include)) if include else not any(map(meets, exclude))


def _declare_inputs(text: Message, layers: list[Layer], net: Net, given: dict[str, Shape]) -> None:
    declared: list[tuple[str, list[int], int]] = []
    names, dims = text.texts("input"), text.integers("input_dim")
    shapes = [m.integers("dim") for m in text.messages("input_shape")] or [
        dims[i : i + 4] for i in range(0, len(dims), 4)
    ]
    for at, name in enumerate(names):
        declared.append((name, shapes[at] if at < len(shapes) else [], text.lines["input"]))
    for layer in [one for one in layers if one.kind == "Input"]:
        held = [m.integers("dim") for m in layer.param("input_param").messages("shape")]
        for at, top in enumerate(layer.tops):
            net.written[top] = [top]
            declared.append((top, held[min(at, len(held) - 1)] if held else [], layer.line))
    if "" in given and len(declared) == 1:
        given[declared[0][0]] = given.pop("")
    for layer in [one for one in layers if one.kind in _DATA]:
        shape = given.get(layer.tops[0]) if layer.tops else None
        if shape is None and not declared:
            raise layer.error(
                "the definition is one for training: it names no input shape",
                code="usage.input_shape",
                hints=["Use the deploy definition.", f"Or give the shape: --input-shape {layer.tops[0]}=1,3,224,224"],
            )
        if shape is not None:
            declared.append((layer.tops[0], list(shape), layer.line))
    layers[:] = [one for one in layers if one.kind != "Input" and one.kind not in _DATA]
    for name, dims, line in declared:
        shape = given.pop(name, None) or tuple(dims)
        if not shape or min(shape[1:], default=1) < 1 or shape[0] < -1 or shape[0] == 0:
            raise AccelError(
                f"line {line}: input {name!r} has the shape {list(shape)}",
                code="usage.input_shape",
                hints=[f"Give it: --input-shape {name}=1,3,224,224"],
            )
        net.input(name, (abs(shape[0]), *shape[1:]))


def _convert(net: Net, layer: Layer, index: int, weights: dict[str, list[Blob]]) -> None:
    if layer.kind in _MEASURE:
        net.notes.append(f"layer {layer.name!r} ({layer.kind}) is left out: it only measures")
        return
    converter = CONVERTERS.get(layer.kind)
    if converter is None:
        near = difflib.get_close_matches(layer.kind, CONVERTERS, n=2, cutoff=0.6)
        raise layer.error(
            "unknown layer type",
            code="unsupported.op",
            hints=[
                *([f"Is it {' or '.join(near)}?"] if near else []),
                "Cut the definition before it.",
            ],
        )
    missing = [b for b in layer.bottoms if b not in net.blobs]
    if layer.kind == "SoftmaxWithLoss":
        layer.bottoms, missing = layer.bottoms[:1], [b for b in layer.bottoms[:1] if b not in net.blobs]
    if missing:
        raise layer.error(f"nothing before it writes its bottom {missing[0]!r}")
    if not layer.bottoms or (not layer.tops and layer.kind != "Silence"):
        raise layer.error("it has no bottom or no top")
    layer.blobs = weights.get(layer.name, [])
    net.begin(layer, index)
    net.read.update(layer.bottoms)
    net.read.difference_update(t for t in layer.tops if t in layer.bottoms)
    try:
        converter(net, layer, [net.blobs[b] for b in layer.bottoms])
    except (ArithmeticError, IndexError, ValueError) as error:  # a shape no converter foresaw
        shapes = ", ".join(str(list(net.shapes[net.blobs[b]])) for b in layer.bottoms if b in net.blobs)
        raise layer.error(f"its parameters do not fit its inputs {shapes}: {error}") from error
    for top in layer.tops:
        if layer.kind != "Dropout" and top in net.blobs:
            net.written.setdefault(top, []).append(net.blobs[top])
    _report_unseen(net, layer)


def _report_unseen(net: Net, layer: Layer) -> None:
    """Nothing is skipped silently: fields that no converter looked at are named."""
    for name, line in layer.text.lines.items():
        if name in _IGNORED:
            continue
        if name not in layer.text.seen:
            net.notes.append(f"layer {layer.name!r}: {name} on line {line} is not understood and has no effect")
            continue
        for message in layer.text.fields[name]:
            if isinstance(message, Message):
                for field, at in message.unseen():
                    net.notes.append(
                        f"layer {layer.name!r}: {name}.{field} on line {at} is not understood and has no effect"
                    )


def _check_shapes(net: Net, proto: onnx.ModelProto) -> None:
    """Caffe's shapes, as converted, must be those of the ONNX graph."""
    from accel.builtin.prepare import graph as g

    inferred = g.shapes(g.infer(proto).graph)
    for tensor, shape in net.shapes.items():
        found = inferred.get(tensor)
        if found is None or -1 in shape:
            continue
        fits = len(found) == len(shape) and all(
            not isinstance(f, int) or f == s for f, s in zip(found, shape, strict=True)
        )
        if not fits:
            raise AccelError(
                f"tensor {tensor!r} is {list(shape)} in Caffe and {list(found)} in ONNX",
                code="model.caffe",
                node=tensor,
            )

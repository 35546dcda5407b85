"""TensorFlow to ONNX, on the tensorflow toolchain's Python: SavedModel, Keras, frozen graphs and TensorFlow Lite."""

import contextlib
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # the answers we compare with: plain kernels

import numpy as np
import tensorflow as tf
import tf2onnx
from exporting import Refused, main, samples, save_samples, say
from tensorflow_guard import refuse_at_load, refuse_keras, refuse_outside

_OPSET = 17


def export(request, folder):
    source = Path(request["source"])
    if source.is_dir():
        return saved_model(source, request, folder)
    if source.suffix in (".keras", ".h5", ".hdf5"):
        return keras_model(source, request, folder)
    if source.suffix == ".tflite":
        return tflite(source, request, folder)
    return frozen(source, request, folder)


def saved_model(source, request, folder):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        refuse_at_load(SavedModel.FromString((source / "saved_model.pb").read_bytes()))
        loaded = tf.saved_model.load(str(source))
    except Refused:
        raise
    except Exception as error:  # DecodeError, OSError, ValueError, a native error of TensorFlow
        raise Refused("model.saved_model", f"{source.name} is no readable SavedModel", str(error)) from error
    names = sorted(loaded.signatures)
    wanted = request.get("signature") or (
        "serving_default" if "serving_default" in names or len(names) != 1 else names[0]
    )
    if wanted not in names:
        known = f"Its signatures: {', '.join(names)}." if names else "It was saved without one."
        raise Refused(
            "model.signature",
            f"the SavedModel has no signature {wanted!r}",
            known,
            ["Choose one: --parse-option tf_signature=NAME."]
            if names
            else ["Save it with model.export(FOLDER) or signatures=."],
        )
    function = loaded.signatures[wanted]
    inputs = [t.name for t in function.inputs if t.dtype != tf.resource]
    known = list(function.structured_input_signature[1])
    labels = [next((k for k in known if n.split(":")[0].endswith(k)), n.split(":")[0]) for n in inputs]
    outputs = _output_labels(function)
    return concrete(function, labels, outputs, request, folder)


def _output_labels(function):
    held = function.structured_outputs
    if not isinstance(held, dict):
        return ["output"] if len(function.outputs) == 1 else [f"output{i}" for i in range(len(function.outputs))]
    return sorted(held)


def keras_model(source, request, folder):
    import keras

    refuse_keras(source)
    try:
        model = keras.models.load_model(str(source), compile=False, safe_mode=True)
    except Exception as error:  # ValueError, OSError, KeyError ... by what is wrong in the file
        code = "model.pickle" if "safe_mode" in str(error) or "Lambda" in str(error) else "model.keras"
        raise Refused(code, f"{source.name} cannot be read as a Keras model", str(error)) from error
    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name.split(":")[0]) for t in model.inputs]
    call = tf.function(lambda *tensors: model(list(tensors) if len(tensors) > 1 else tensors[0], training=False))
    names = [str(n) for n in getattr(model, "output_names", [])]
    return concrete(call.get_concrete_function(*specs), [s.name for s in specs], names, request, folder)


def frozen(source, request, folder):
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(source.read_bytes())
    except Exception as error:  # protobuf's DecodeError
        raise Refused("model.frozen", f"{source.name} is no readable frozen graph", str(error)) from error
    read = {i.split(":")[0].lstrip("^") for node in graph_def.node for i in node.input}
    inputs = [n.name for n in graph_def.node if n.op == "Placeholder"]
    idle = ("Const", "NoOp", "Assert", "Placeholder")
    outputs = request.get("outputs") or [n.name for n in graph_def.node if n.name not in read and n.op not in idle]
    known = {n.name for n in graph_def.node}
    missing = [n for n in outputs if n not in known]
    if missing or not inputs or not outputs:
        what = f"no node {missing[0]!r}" if missing else "no inputs or no outputs"
        raise Refused(
            "usage.output", f"the frozen graph has {what}", hints=["Name its outputs: --parse-option tf_outputs=a,b."]
        )
    refuse_outside(graph_def)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph_def, name=""), [])
    element = wrapped.graph.as_graph_element
    function = wrapped.prune([element(f"{n}:0") for n in inputs], [element(f"{n}:0") for n in outputs])
    return concrete(function, inputs, outputs, request, folder)


def concrete(function, labels, outputs, request, folder):
    """Freeze a concrete function, convert it, and keep its answers."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    refuse_outside(function.graph.as_graph_def())
    say("freezing the weights")
    fixed = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    graph_def = fixed.graph.as_graph_def()
    refuse_outside(graph_def)
    tensors = list(fixed.inputs)
    order = [t.name for t in function.inputs if t.dtype != tf.resource]
    label_of = dict(zip(order, labels, strict=True))
    labels = [label_of.get(t.name, t.name.split(":")[0]) for t in tensors]
    specs = _specs(request, labels, [_shape(t) for t in tensors], [t.dtype.as_numpy_dtype for t in tensors])
    if len(outputs) != len(fixed.outputs):
        outputs = ["output"] if len(fixed.outputs) == 1 else [f"output{i}" for i in range(len(fixed.outputs))]
    say("writing ONNX")
    proto, _ = tf2onnx.convert.from_graph_def(
        graph_def,
        input_names=[t.name for t in tensors],
        output_names=[t.name for t in fixed.outputs],
        opset=_OPSET,
        shape_override={
            t.name: [None if d < 0 else d for d in s["shape"]]
            for t, s in zip(tensors, specs, strict=True)
            if s["shape"] != _shape(t)
        },
    )
    names = dict(zip([t.name for t in tensors] + [t.name for t in fixed.outputs], labels + outputs, strict=True))
    _rename(proto.graph, names)
    (folder / "net.onnx").write_bytes(proto.SerializeToString())

    def answer(feeds):
        found = fixed(*[tf.constant(feeds[label]) for label in labels])
        found = list(found.values()) if isinstance(found, dict) else found
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        return [np.asarray(t) for t in found]

    return _answers(answer, specs, folder)


def _shape(tensor):
    if tensor.shape.rank is None:
        return None
    return [-1 if d is None else int(d) for d in tensor.shape]


def _specs(request, labels, shapes, dtypes):
    given = dict(request["shapes"])
    if "" in given and len(labels) == 1:
        given[labels[0]] = given.pop("")
    unknown = [n for n in given if n not in labels]
    if unknown:
        hint = f"Its inputs: {', '.join(labels)}."
        raise Refused("usage.input_shape", f"the network has no input {unknown[0]!r}", hints=[hint])
    specs = []
    for label, shape, dtype in zip(labels, shapes, dtypes, strict=True):
        shape = given.get(label, shape)
        if shape is None or any(d < 1 for d in shape[1:]) or 0 in shape:
            example = f"--input-shape {label}=1,224,224,3"
            raise Refused("usage.dynamic_shape", f"the shape of input {label!r} is not known: {shape}", hints=[example])
        specs.append({"name": label, "shape": shape, "dtype": np.dtype(dtype).name})
    return specs


def _rename(graph, names):
    taken = {o for node in graph.node for o in node.output} | {i.name for i in graph.initializer}
    names = {old: new for old, new in names.items() if new not in taken or new == old}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for held in (node.input, node.output):
            for at, name in enumerate(held):
                held[at] = names.get(name, name)


def _answers(answer, specs, folder):
    say("computing what the network answers")
    feeds = samples(specs, 1)
    save_samples(folder, 1, feeds, answer(feeds))
    if any(s["shape"] and s["shape"][0] == -1 for s in specs):
        with contextlib.suppress(Exception):  # then the driver sees that there is no batch 2
            feeds = samples(specs, 2)
            save_samples(folder, 2, feeds, answer(feeds))
    return {"traced": True}


def tflite(source, request, folder):
    content = source.read_bytes()
    if content[4:8] != b"TFL3":
        raise Refused("model.tflite", f"{source.name} is no TensorFlow Lite file")
    try:
        interpreter = tf.lite.Interpreter(model_content=content)
    except (ValueError, RuntimeError) as error:
        raise Refused("model.tflite", f"{source.name} is no readable TensorFlow Lite file", str(error)) from error
    quantised = any(d["dtype"] in (np.int8, np.uint8) for d in interpreter.get_tensor_details())
    held = interpreter.get_input_details()
    labels = [d["name"].removeprefix("serving_default_").split(":")[0] for d in held]
    shapes = [[int(v) for v in d["shape_signature"]] for d in held]
    specs = _specs(request, labels, shapes, [d["dtype"] for d in held])
    names = [d["name"] for d in held]
    say("writing ONNX")
    # from_tflite has no dequantize; this is what it calls, and the version is pinned.
    proto, _ = tf2onnx.convert._convert_common(
        None, tflite_path=str(source), name=source.stem, opset=_OPSET, dequantize=quantised, tensors_to_rename=None
    )
    outputs = [d["name"] for d in interpreter.get_output_details()]
    new = ["output"] if len(outputs) == 1 else [f"output{i}" for i in range(len(outputs))]
    _rename(proto.graph, dict(zip(names + outputs, labels + new, strict=True)))
    for value in proto.graph.input:
        spec = next((s for s in specs if s["name"] == value.name), None)
        if spec:
            del value.type.tensor_type.shape.dim[:]
            for size in spec["shape"]:
                dim = value.type.tensor_type.shape.dim.add()
                if size > 0:
                    dim.dim_value = size
                else:
                    dim.dim_param = "batch"
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    if quantised:  # the float network that the integers stand for answers a little differently
        return {"note": "a quantised network, read as the float network it stands for: not compared"}
    order = [o.name for o in proto.graph.output]
    places = [order.index(n) if n in order else i for i, n in enumerate(new)]

    def answer(feeds):
        for detail, label in zip(held, labels, strict=True):
            interpreter.resize_tensor_input(detail["index"], feeds[label].shape)
        interpreter.allocate_tensors()
        for detail, label in zip(held, labels, strict=True):
            interpreter.set_tensor(detail["index"], feeds[label])
        interpreter.invoke()
        found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        return [found[places.index(i)] for i in range(len(found))]

    return _answers(answer, specs, folder)


if __name__ == "__main__":
    main(export)

"""Builds and runs networks with MagicMind. The vendor's side: Python 3.7, NumPy and the SDK, nothing else.

The same file is the worker that ``accel`` starts in the SDK's Python, and the body of the script that
``--emit-script`` leaves: whatever one does the other does too.
"""

# mypy: ignore-errors
# ruff: noqa: B905, PTH105

import os
import sys

import magicmind.python.runtime as mm
import numpy as np
from magicmind.python.runtime.parser import Parser

KINDS = {"onnx": "kOnnx", "pytorch": "kPytorch", "caffe": "kCaffe", "tensorflow": "kTensorflow"}
DTYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}


def check(status, what):
    """MagicMind reports failure by a Status; every one is looked at."""
    if not status.ok():
        raise RuntimeError(f"{what} failed: {status}")


def parse(plan):
    """The network of ``plan["kind"]`` from ``plan["files"]``, its inputs at ``plan["shapes"]``."""
    kind = plan["kind"]
    parser = Parser(getattr(mm.ModelKind, KINDS[kind]))
    if kind == "pytorch":
        dtypes = [getattr(mm.DataType, DTYPES[d]) for d in plan["dtypes"]]
        check(parser.set_model_param("pytorch-input-dtypes", dtypes), "pytorch-input-dtypes")
    elif kind == "tensorflow":
        check(parser.set_model_param("tf-model-type", "tf-graphdef-file"), "tf-model-type")
        check(parser.set_model_param("tf-graphdef-inputs", plan["tf_inputs"]), "tf-graphdef-inputs")
        check(parser.set_model_param("tf-graphdef-outputs", plan["tf_outputs"]), "tf-graphdef-outputs")
    network = mm.Network()
    check(parser.parse(network, *plan["files"]), f"parsing {plan['files'][0]}")
    count = network.get_input_count()
    if count != len(plan["shapes"]):
        raise RuntimeError(f"the network has {count} inputs, not {len(plan['shapes'])}")
    for index, shape in enumerate(plan["shapes"]):
        check(network.get_input(index).set_dimension(mm.Dims(list(shape))), f"set_dimension of input {index}")
    return network


class Samples(mm.CalibDataInterface):
    """Calibration samples of one input: files that numpy.save wrote, one a batch."""

    def __init__(self, files):
        super().__init__()
        self.files = files
        self.at = 0
        self.sample = np.load(files[0], allow_pickle=False)

    def get_shape(self):
        """Of the sample that get_sample gives."""
        return mm.Dims(list(self.sample.shape))

    def get_data_type(self):
        """Of the sample that get_sample gives."""
        return getattr(mm.DataType, DTYPES[self.sample.dtype.name])

    def get_sample(self):
        """The sample that next moved to."""
        return self.sample

    def next(self):
        """Go to the next sample."""
        if self.at >= len(self.files):
            return mm.Status(mm.Code.OUT_OF_RANGE, "no more samples")
        self.sample = np.ascontiguousarray(np.load(self.files[self.at], allow_pickle=False))
        self.at += 1
        return mm.Status.OK()

    def reset(self):
        """Start over."""
        self.at = 0
        return mm.Status.OK()


def activate(number):
    """The card ``number``, ready for use. Call it inside ``with mm.System()``."""
    device = mm.Device()
    device.id = number
    check(device.active(), f"activating card {number}")
    return device


def calibrate(plan, network, config):
    """The SDK's own calibration, on a card of this machine or of another one."""
    told = plan["calibration"]
    calibrator = mm.Calibrator([Samples(files) for files in told["samples"]])
    algorithm = {"linear": "LINEAR_ALGORITHM", "eqnm": "EQNM_ALGORITHM"}[told["algorithm"]]
    check(
        calibrator.set_quantization_algorithm(getattr(mm.QuantizationAlgorithm, algorithm)),
        "set_quantization_algorithm",
    )
    if told["remote"]:
        remote = mm.RemoteConfig()
        remote.address = told["remote"]
        check(calibrator.set_remote(remote), f"set_remote {told['remote']}")
        check(calibrator.calibrate(network, config), "calibration")
        return
    with mm.System() as system:
        if told["device"] >= system.device_count():
            raise RuntimeError(f"no card {told['device']}: calibration on this machine needs one")
        activate(told["device"])
        check(calibrator.calibrate(network, config), "calibration")


def build(plan):
    """Parse, configure, calibrate where asked, build, and write ``plan["output"]``."""
    network = parse(plan)
    config = mm.BuilderConfig()
    for text in plan["configs"]:
        check(config.parse_from_string(text), "the builder configuration")
    if plan["calibration"]:
        calibrate(plan, network, config)
    model = mm.Builder().build_model(plan["name"], network, config)
    if model is None:
        raise RuntimeError("MagicMind built no model; its messages are in the log")
    part = plan["output"] + ".part"
    check(model.serialize_to_file(part), f"serialising to {part}")
    os.replace(part, plan["output"])
    return describe(model)


def describe(model):
    """Names, types and shapes of a built model's inputs and outputs."""
    names = {getattr(mm.DataType, v): k for k, v in DTYPES.items() if hasattr(mm.DataType, v)}

    def listed(tensors, types, shapes):
        return [
            {"name": n, "dtype": names.get(t, str(t)), "shape": [int(d) for d in s.GetDims()]}
            for n, t, s in zip(tensors, types, shapes)
        ]

    return {
        "inputs": listed(model.get_input_names(), model.get_input_data_types(), model.get_input_dimensions()),
        "outputs": listed(model.get_output_names(), model.get_output_data_types(), model.get_output_dimensions()),
    }


class Session:
    """A built model on a card."""

    def __init__(self, path, number):
        self.model = mm.Model()
        check(self.model.deserialize_from_file(path), f"reading {path}")
        self.system = mm.System()
        self.system.__enter__()
        cards = self.system.device_count()
        if number >= cards:
            raise RuntimeError(f"no card {number}: this machine has {cards}")
        self.device = activate(number)
        engine_config = mm.Model.EngineConfig()
        engine_config.device_type = "MLU"
        self.engine = self.model.create_i_engine(engine_config)
        if self.engine is None:
            raise RuntimeError(f"no engine for {path}: was it built for this card's architecture?")
        self.context = self.engine.create_i_context()
        self.queue = self.device.create_queue()
        self.inputs = self.context.create_inputs()

    def infer(self, arrays):
        """Outputs in the model's order, for input arrays in the model's order."""
        for tensor, array in zip(self.inputs, arrays):
            check(tensor.from_numpy(np.ascontiguousarray(array)), "from_numpy")
            check(tensor.to(self.device), "copying to the card")
        outputs = []
        check(self.context.enqueue(self.inputs, outputs, self.queue), "enqueue")
        check(self.queue.sync(), "sync")
        return [np.array(tensor.asnumpy()) for tensor in outputs]

    def close(self):
        """Give the card back, in the order of dependence."""
        self.inputs = self.context = self.queue = self.engine = None
        self.system.__exit__(None, None, None)


# --- below here: only for the worker ---


def worker_main():
    """Answer the driver's calls."""
    from accel_worker import serve

    sessions = {}

    def worker_build(params, _arrays):
        return build(params["plan"]), {}

    def worker_open(params, _arrays):
        sessions["open"] = Session(params["model"], params["device"])
        return describe(sessions["open"].model), {}

    def worker_infer(params, arrays):
        outputs = sessions["open"].infer([arrays[str(i)] for i in range(len(arrays))])
        return {}, {str(i): a for i, a in enumerate(outputs)}

    def worker_close(_params, _arrays):
        sessions.pop("open").close()
        return {}, {}

    serve({"build": worker_build, "open": worker_open, "infer": worker_infer, "close": worker_close})


if __name__ == "__accel_worker__":
    sys.exit(worker_main())

"""Runs in the toolchain's Python: the compiler's MLIR interpreter and the chip's functional model of a bmodel."""

import os

import numpy as np
from accel_worker import serve

state = {}


def open_mlir(params, arrays):
    import pymlir

    # Without this the interpreter shares buffers between layers and every value comes out near 0.
    pymlir.set_mem_mode("value_mem")
    path = params["path"]
    os.chdir(os.path.dirname(path))  # noqa: PTH120  (the weights are looked up in the working directory)
    state.pop("module", None)
    module = pymlir.module()
    module.load(os.path.basename(path))  # noqa: PTH119
    state["module"] = module
    return {"inputs": list(module.input_names), "outputs": list(module.output_names)}, {}


def infer_mlir(params, arrays):
    module = state["module"]
    for name, array in arrays.items():
        if array.dtype in (np.int8, np.uint8):
            module.set_tensor_from_int(name, array.astype(np.float32), array.shape)
        else:
            module.set_tensor(name, np.ascontiguousarray(array, np.float32), array.shape)
    module.invoke(True)
    tensors = module.get_all_tensor()
    wanted = params.get("fetch")
    if wanted is None:
        wanted = list(module.output_names)
    elif wanted == "all":
        wanted = list(tensors)
    return {"missing": [n for n in wanted if n not in tensors]}, {
        n: np.array(tensors[n]) for n in wanted if n in tensors
    }


def open_bmodel(params, arrays):
    import ctypes

    state["library"] = ctypes.CDLL("libcmodel.so")  # the private link, first on the library path
    import pyruntime_bm

    model = pyruntime_bm.Model(params["path"], 0, "")
    net = model.Net(model.networks[0])
    state["model"], state["net"] = model, net

    def spec(t):
        return {
            "name": t.name,
            "dtype": t.dtype,
            "shape": list(t.data.shape),
            "scale": float(t.qscale),
            "zero": int(t.qzero_point),
        }

    return {
        "network": model.networks[0],
        "inputs": [spec(t) for t in net.inputs],
        "outputs": [spec(t) for t in net.outputs],
    }, {}


def infer_bmodel(params, arrays):
    net = state["net"]
    raw = {}
    for at, tensor in enumerate(net.inputs):
        given = arrays[tensor.name]
        codes = _lower(given, tensor)
        tensor.data.reshape(-1)[: codes.size] = codes.reshape(-1)
        if params.get("raw"):
            raw[f"in:{at:03d}:{tensor.name}"] = np.array(codes)
    shapes = [list(arrays[t.name].shape) for t in net.inputs]
    made = net.forward_dynamic(shapes)
    outputs = {}
    for at, (tensor, shape) in enumerate(zip(net.outputs, made, strict=True)):
        count = int(np.prod(shape))
        codes = np.array(tensor.data).reshape(-1)[:count].reshape(shape)
        if params.get("raw"):
            raw[f"out:{at:03d}:{tensor.name}"] = np.array(tensor.data)
        outputs[tensor.name] = _raise(codes, tensor)
    outputs.update(raw)
    return {}, outputs


def _lower(array, tensor):
    dtype = tensor.data.dtype
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if dtype in (np.int8, np.uint8) and array.dtype == np.float32:
        scaled = array * np.float32(tensor.qscale) + tensor.qzero_point
        rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
        limits = np.iinfo(dtype)
        return np.clip(rounded, limits.min, limits.max).astype(dtype)
    return array.astype(dtype)


def _raise(codes, tensor):
    if codes.dtype in (np.int8, np.uint8) and tensor.qscale != 0:
        return ((codes.astype(np.float32) - tensor.qzero_point) * np.float32(tensor.qscale)).astype(np.float32)
    if tensor.dtype == "bf16":
        return (codes.astype(np.uint32) << 16).view(np.float32)
    return codes.astype(np.float32) if codes.dtype == np.float16 else codes


serve({"open_mlir": open_mlir, "infer_mlir": infer_mlir, "open_bmodel": open_bmodel, "infer_bmodel": infer_bmodel})

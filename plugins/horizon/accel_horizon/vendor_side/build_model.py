"""Compiles one job with hmct and hbdk. Runs on the toolchain's Python: ``python build_model.py job.json``.

The job's files are named relative to the working directory, which is the job's own: the compiler writes its
paths into what it makes, so equal relative names give equal files.

Reads ``job.json`` (made by ``accel_horizon.job``), writes ``result.json`` and the model's files.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from unused import leave_out

leave_out()

from hbdk import __version__ as hbdk_version  # noqa: E402
from horizon_nn.builder.model_builder import ModelBuilder  # noqa: E402
from horizon_nn.common import (  # noqa: E402
    Dataset,
    create_batch_input_shape,
    find_input_calibration,
    infer_shapes,
    modify_model_by_cpp_func,
)
from horizon_nn.compiler.hybrid_build import HybridBuilder  # noqa: E402
from horizon_nn.converter import parse  # noqa: E402
from horizon_nn.ir.horizon_onnx import quantizer  # noqa: E402
from horizon_nn.quantizer.calibrater.activation import ActivationEqualization, PostCalibration  # noqa: E402
from horizon_nn.quantizer.calibrater.activation.activation_asymmetric import ActivationAsymmetric  # noqa: E402
from horizon_nn.quantizer.calibrater.base import CalibrationPipeline  # noqa: E402
from horizon_nn.quantizer.calibrater.post import AdjustConvQuantParams, RefineThreshold  # noqa: E402
from horizon_nn.quantizer.calibrater.weight import BiasCorrection, weight_calibration  # noqa: E402
from horizon_nn.reporter.calculate_hybrid_type import update_node_datatype_info  # noqa: E402
from horizon_nn.utility import TEMP_DIR  # noqa: E402
from horizon_nn.version import __version__ as hmct_version  # noqa: E402
from thresholds import OurThresholds  # noqa: E402

HBM = "PACKED_HBM_MODEL"


class Builder(ModelBuilder):
    """ModelBuilder with accel's thresholds in the place of hmct's own activation calibration."""

    job = None
    notes = None
    mapping = None

    def calibrate(self, optimized_model):
        config = self.quant_config_manager
        if self.job["calibration"]["kind"] != "accel":
            return super().calibrate(optimized_model)
        model = modify_model_by_cpp_func(optimized_model, quantizer.create_pre_calibrated_model)
        if self.calibration_data:
            dataset = Dataset(input_data=self.calibration_data)
        else:
            dataset = Dataset(input_shapes=model.graph.input_shapes, input_dtypes=model.graph.input_dtypes)
        ours = OurThresholds(self.job["calibration"], (self.original_model, self.optimized_model), self.notes)
        pipeline = CalibrationPipeline()
        if self.job["calibration"]["unsigned"]:
            pipeline.set(ActivationAsymmetric())
        pipeline.set([ours, PostCalibration(), ActivationEqualization()])
        pipeline.set(weight_calibration(config.weight_config))
        if self.job["calibration"].get("bias_correction"):
            pipeline.set(BiasCorrection(config.weight_config))
        if config.march in ("bayes", "bayes-e"):
            pipeline.set(AdjustConvQuantParams())
        pipeline.set(RefineThreshold())
        model = pipeline.calibrate(model, calibration_dataset=dataset)
        self.mapping = ours.used
        model.check_validity()
        return model, "accel", dataset


def input_dict(job):
    made = {}
    for name, spec in job["inputs"].items():
        entry = {"input_shape": spec["shape"], "original_input_layout": "NCHW"}
        if spec["rt_type"] != "featuremap":
            entry["original_input_type"] = spec["train_type"].upper()
            entry["expected_input_type"] = {"nv12": "YUV444_128"}.get(spec["rt_type"], spec["rt_type"].upper() + "_128")
            if spec["rt_type"] != "nv12":  # that one is set by hmct itself
                entry["expected_input_layout"] = spec["layout"]
        if spec.get("mean") is not None:
            entry["means"] = np.float32(spec["mean"])
        if spec.get("scale") is not None:
            entry["scales"] = np.float32(spec["scale"])
        made[name] = entry
    return made


def samples(job):
    folder = job["calibration"].get("samples")
    if not folder:
        return None
    data = {}
    for name, files in folder.items():
        data[name] = [np.load(f, allow_pickle=False) for f in files]
    return data


def cali_dict(job):
    calibration = job["calibration"]
    made = {"calibration_type": "max", "calibration_data": samples(job)}
    if calibration["kind"] == "vendor":
        made["calibration_type"] = calibration["method"]
        if calibration.get("per_channel"):
            made["per_channel"] = True
        if calibration.get("max_percentile"):
            made["max_percentile"] = calibration["max_percentile"]
    return made


def feature_calibrations(model):
    """Threshold, scale, bits of every activation tensor, by the tensor's name."""
    made = {}
    for node in model.graph.type2nodes["HzCalibration"]:
        if node.tensor_type != "feature" or node.thresholds is None:
            continue
        made[node.inputs[0].name] = {
            "thresholds": [float(t) for t in node.thresholds],
            "scales": [float(s) for s in node.scales],
            "zero_point": [int(z) for z in node.zero_point or ()],
            "qtype": node.qtype,
        }
    return made


def node_types(model):
    """What each node's activations are stored as (``int8``, ``int16``, ``float32``), by node name."""
    made = {}
    for node in model.graph.nodes:
        if node.op_type == "HzCalibration":
            continue
        types = set()
        for at in range(len(node.inputs)):
            calibration = find_input_calibration(node, at)
            if calibration is not None and calibration.tensor_type == "feature":
                types.add(calibration.qtype)
        made[node.name] = sorted(types)
    return made


def sources(job):
    return {n: ("pyramid" if s["rt_type"] == "nv12" else "ddr") for n, s in job["inputs"].items()}


def write_bin(job, hybrid, path):
    """The file that the board's runtime loads."""
    from horizon_tc_ui.hbdtort.onnx2horizonrt import build_runtime_model_wrapper
    from horizon_tc_ui.hbdtort.runtime_pb2 import ModelProto
    from horizon_tc_ui.version import __version__ as tc_ui_version

    names = list(job["inputs"])
    specs = [job["inputs"][n] for n in names]
    types = {n: job["inputs"][n]["rt_type"] for n in names}
    layouts = [s["layout"] for s in specs]
    info = {
        "hb_mapper_version": tc_ui_version,
        "hbdk_version": hbdk_version,
        "horizon_nn_version": hmct_version,
        "onnx_model": job["model"],
        "march": job["march"],
        "layer_out_dump": False,
        "log_level": "INFO",
        "working_dir": ".",
        "model_prefix": job["prefix"],
        "input_names": names,
        "input_type_rt": list(types.values()),
        "input_type_train": [s["train_type"] for s in specs],
        "input_layout_rt": layouts,
        "input_layout_train": ["NCHW"] * len(names),
        "norm_type": ["data_mean_and_scale" if s.get("scale") else "no_preprocess" for s in specs],
        "mean_value": [",".join(map(str, s.get("mean") or [])) for s in specs],
        "scale_value": [",".join(map(str, s.get("scale") or [])) for s in specs],
        "input_shape": ["x".join(map(str, s["shape"])) for s in specs],
        "preprocess_on": False,
        "calibration_type": "load",
        "hbdk_params": {"hbdk_pass_through_params": job["flags"]},
        "debug": "--debug" in job["flags"],
    }
    build_runtime_model_wrapper(hybrid, path, types, layouts, info)
    # Written again with the entries of its maps in order: they come in another one each time.
    model = ModelProto()
    model.ParseFromString(Path(path).read_bytes())
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def sort_lists(proto):
    """hmct lists initialisers and inner values by where they lie in memory: another order in another process."""
    for entries in (proto.graph.initializer, proto.graph.value_info):
        ordered = sorted(entries, key=lambda entry: entry.name)
        kept = [type(entry).FromString(entry.SerializeToString()) for entry in ordered]
        del entries[:]
        entries.extend(kept)


def sort_saved(path):
    """The same for a model that hmct has saved."""
    proto = onnx.load(path)
    sort_lists(proto)
    Path(path).write_bytes(proto.SerializeToString(deterministic=True))


def write_files(job, hybrid):
    """``.bin``, ``.hbm``, and the host's part of the model with the ``.hbm`` taken out."""
    hybrid.graph.name = job["prefix"]
    sort_lists(hybrid)
    write_bin(job, hybrid, job["prefix"] + ".bin")
    for tensor in hybrid.graph.initializer:
        if tensor.name == HBM:
            Path(job["prefix"] + ".hbm").write_bytes(tensor.string_data[0])
            del tensor.string_data[:]
    Path(job["prefix"] + "_host_model.onnx").write_bytes(hybrid.SerializeToString(deterministic=True))


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    started = time.time()
    Path("hbdk").mkdir(exist_ok=True)
    TEMP_DIR.cleanup()
    TEMP_DIR.temp_dir = "hbdk"
    notes = []
    result = {"versions": {"hbdk": hbdk_version, "hmct": hmct_version}, "notes": notes, "seconds": {}}

    def stage(name):
        print("accel-stage: " + name, flush=True)
        result["seconds"][name] = round(time.time() - started, 2)

    check = job["stop_after"] == "quantize"
    builder = Builder(
        onnx_model=parse(model_type="onnx", onnx_model_or_proto=job["model"]),
        march=job["march"],
        check_mode=job["calibration"]["kind"] != "vendor",  # only leaves out a similarity table
        save_model=not check,
        verbose=False,
        name_prefix=job["prefix"],
        optimization=job["optimization"],
        skip_step=["skip_compiler"],
        cali_dict=cali_dict(job),
        node_dict=job["nodes"],
        hbdk_dict={
            "hbdk_pass_through_params": job["flags"],
            "input-source": dict(sources(job), _default_value="ddr"),
        },
        input_dict=input_dict(job),
    )
    builder.job, builder.notes = job, notes
    stage("quantize")
    builder.build()
    quantized = builder.quantized_model
    result["calibration"] = feature_calibrations(builder.calibrated_model)
    result["node_types"] = node_types(builder.calibrated_model)
    result["mapping"] = builder.mapping or {}
    if check:
        shapes = create_batch_input_shape(quantized.graph.input_shapes, {})
        shaped = infer_shapes(quantized, builder.original_model, input_shape=shapes)
        hybrid = HybridBuilder(shaped, job["march"], builder.hbdk_dict_parser)
    else:
        stage("compile")
        model, hybrid = builder.compile(quantized)
        write_files(job, model.proto)
        for saved in sorted(Path().glob(job["prefix"] + "_*_model.onnx")):
            sort_saved(str(saved))
    placement = update_node_datatype_info(quantized, hybrid.model_info())
    made_by = {v.name: node.name for node in quantized.graph.nodes for v in node.outputs}
    result["placement"] = placement
    result["made_by"] = made_by
    shutil.rmtree("hbdk", ignore_errors=True)
    stage("done")
    part = Path("result.json.part")
    part.write_text(json.dumps(result))
    part.replace("result.json")


if __name__ == "__main__":
    main()

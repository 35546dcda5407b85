"""From a prepared model and our calibration to a MagicMind model, in the SDK's Python or as a script for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from accel import progress
from accel.artifact import Artifact, Manifest
from accel.artifacts import write_artifact
from accel.calibration import Calibration, Range
from accel.errors import AccelError
from accel.model import Dim, Model, TensorSpec
from accel.options import BuildOptions
from accel.target import Numerics, Target
from accel.toolchain.spec import Environment

from accel_mlu.graph import fixed_inputs, node_numerics
from accel_mlu.magicmind.config import BuilderConfig, DimRange, LayoutChange, batch_norm
from accel_mlu.magicmind.plan import BuildPlan, Kind, VendorCalibration, script
from accel_mlu.options import MluOptions, numerics

PAYLOAD = "magicmind"
SCRIPT_PAYLOAD = "magicmind-script"
SDK = Path(__file__).with_name("sdk.py")
_NATIVE: dict[str, Kind] = {".pt": "pytorch", ".pth": "pytorch", ".pb": "tensorflow", ".caffemodel": "caffe"}


def build(
    model: Model,
    target: Target,
    options: BuildOptions,
    mlu: MluOptions,
    calibration: Calibration | None,
    workspace: Path,
    environment: Environment,
) -> Artifact:
    """Build with the SDK of this machine; the artifact's payload is ``magicmind``.

    Raises:
        AccelError: ``usage.option`` for a configuration MagicMind would refuse, ``failed.worker`` with MagicMind's own
            message when the build fails.
    """
    from accel.toolchain.worker import Worker

    folder = workspace / "artifact"
    folder.mkdir()
    made = _Build(model, target, options, mlu, calibration)
    plan = made.plan(folder, workspace)
    log = folder / "magicmind.log"
    with (
        progress.step(f"MagicMind builds {model.name} for {target.arch} {options.precision}"),
        Worker(environment, SDK, cwd=workspace, log=log, stage="build") as worker,
    ):
        told, _ = worker.call("build", {"plan": plan.as_dict()})
    manifest = made.manifest(PAYLOAD)
    _check_io(told, manifest)
    files = {"model": Path(plan.output), "data": folder / "builder_config.json", "log": log}
    return write_artifact(folder, manifest, files)


def emit(
    model: Model,
    target: Target,
    options: BuildOptions,
    mlu: MluOptions,
    calibration: Calibration | None,
    workspace: Path,
) -> Artifact:
    """Write what :func:`build` would do as a script with its inputs; the payload is ``magicmind-script``."""
    folder = workspace / "artifact"
    folder.mkdir()
    made = _Build(model, target, options, mlu, calibration)
    plan = made.plan(folder, folder).relative_to(folder)
    written = folder / "build_magicmind.py"
    written.write_text(script(plan), encoding="utf-8")
    manifest = made.manifest(SCRIPT_PAYLOAD)
    note = "nothing is built yet: run build_magicmind.py with the SDK's Python, inside the vendor's container"
    inside = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != written]
    return write_artifact(folder, replace(manifest, notes=(*manifest.notes, note)), {"model": written, "data": inside})


class _Build:
    """One build's decisions, made once."""

    def __init__(
        self, model: Model, target: Target, options: BuildOptions, mlu: MluOptions, calibration: Calibration | None
    ) -> None:
        from accel.builtin.prepare.batch import set_batch

        self.target, self.options, self.mlu, self.calibration = target, options, mlu, calibration
        self.numerics: Numerics = numerics(target, options.precision, mlu)
        self.notes: list[str] = []
        self.batches = tuple(sorted(set(options.batches)))
        self.mutable = mlu.shape_mutable if mlu.shape_mutable is not None else len(self.batches) > 1 or options.dynamic
        if len(self.batches) > 1 and not self.mutable:
            raise AccelError(
                f"batches {list(self.batches)} in one model need shapes that may change",
                code="usage.option",
                hints=["Leave graph_shape_mutable out, or build one batch."],
            )
        self.native = mlu.parser == "native"
        self.kept: dict[str, Range] = {}
        model = self._tuned(model)
        self.model = model if self.mutable else set_batch(model, self.batches[0])
        self.shapes = [_static(spec, self.batches[0]) for spec in self.model.inputs]
        if options.node_precisions:
            raise AccelError(
                "MagicMind's form of per-node precisions is not public",
                code="unsupported.node_precision",
                node=next(iter(options.node_precisions)),
                hints=["Write custom_nodes as the SDK's manual says into a JSON file and give --set config=FILE."],
            )
        if options.opt is not None:
            self.notes.append("MagicMind has no optimisation levels: --opt is not used")
        folded = options.fold_preprocessing
        for asked in sorted(options.int_io - ({"input"} if folded else set())):
            self.notes.append(f"integer {asked} is not built: MagicMind makes the input uint8 only with mean and std")
        self.config = self._config()

    def _tuned(self, model: Model) -> Model:
        """The reference's thresholds and biases: both backends get the same."""
        from accel.builtin.prepare.tuning import choose_ranges, tune

        scheme = self.numerics.activation
        if scheme is None or self.options.calibrator == "vendor" or self.native:
            return model
        assert self.calibration is not None
        self.kept = choose_ranges(
            model, self.calibration, self.options.method, bits=scheme.bits, symmetric=scheme.symmetric
        )
        return tune(model, self.numerics, self.kept, self.calibration, self.options.passes)

    def _config(self) -> BuilderConfig:
        options, mlu, quantized = self.options, self.mlu, self.numerics.quantized
        norms = {}
        if options.fold_preprocessing:
            if options.preprocessing is None:
                raise AccelError(
                    "there is no preprocessing to fold in", code="usage.option", hints=["Give mean and std."]
                )
            channel = 1 if options.preprocessing.layout == "NCHW" else -1
            norms = {0: batch_norm(options.preprocessing, self.shapes[0][channel])}
            self.notes.append("input 0 is uint8: mean and variance are inside the network")
        return BuilderConfig(
            arch=self.target.arch,
            clusters=(options.cores or self.target.cores[0],),
            precision_mode=options.precision,
            activation_quant_algo=("asymmetric" if mlu.asymmetric else "symmetric") if quantized else None,
            weight_quant_granularity=("per_axis" if mlu.per_axis else "per_tensor") if quantized else None,
            shape_mutable=self.mutable,
            dim_ranges=self._dim_ranges(),
            input_bn=norms,
            input_layouts=_layouts(mlu.input_layout),
            output_layouts=_layouts(mlu.output_layout),
            computation_preference=mlu.preference,
            type64to32=_has_int64(self.model.proto),
            cross_compile_toolchain_path=mlu.cross_compile,
            custom_ranges=self._ranges(),
            overrides=mlu.config,
        )

    def _dim_ranges(self) -> dict[int, DimRange]:
        if not self.mutable:
            return {}
        found = {}
        for index, shape in enumerate(self.shapes):
            asked = self.mlu.dim_range.get(str(index))
            if asked is None:
                found[index] = DimRange((self.batches[0], *shape[1:]), (self.batches[-1], *shape[1:]))
                continue
            try:
                found[index] = DimRange(tuple(map(int, asked["min"])), tuple(map(int, asked["max"])))
            except (KeyError, TypeError, ValueError) as error:
                raise AccelError(
                    f"dim_range of input {index} is not understood",
                    code="usage.option",
                    cause=str(error),
                    hints=['For example {"0": {"min": [1,3,64,64], "max": [8,3,64,64]}}.'],
                ) from error
        return found

    def _ranges(self) -> dict[str, Range]:
        if not self.numerics.quantized or self.options.calibrator == "vendor":
            return {}
        if self.native:
            raise AccelError(
                "our ranges are named by the ONNX graph, and MagicMind would parse another file",
                code="usage.option",
                hints=["Use --calibrator vendor with --set parser=native, or leave parser=onnx."],
            )
        scheme = self.numerics.activation
        assert scheme is not None
        found = {}
        for name in fixed_inputs(self.model.proto):
            kept = self.kept.get(name)
            if kept is None:
                raise AccelError(f"the calibration has no range for tensor {name!r}", code="calibration.missing")
            t = kept.threshold
            span = Range(-t, t) if scheme.symmetric else Range(min(kept.low, 0.0), max(kept.high, 0.0))
            found[self.mlu.range_names.replace("{name}", name)] = span
        return found

    def plan(self, folder: Path, samples: Path) -> BuildPlan:
        """The plan, its configuration and network written into ``folder``, calibration samples into ``samples``."""
        text = self.config.as_json()
        (folder / "builder_config.json").write_text(text, encoding="utf-8")
        kind, files = self._source(samples)
        return BuildPlan(
            kind=kind,
            files=tuple(str(f) for f in files),
            shapes=tuple(self.shapes),
            configs=(text,),
            name=self.model.name,
            output=str(folder / f"{self.model.name}.magicmind"),
            dtypes=tuple(spec.dtype for spec in self.model.inputs),
            tf_inputs=tuple(i.name for i in self.model.inputs) if kind == "tensorflow" else (),
            tf_outputs=tuple(o.name for o in self.model.outputs) if kind == "tensorflow" else (),
            calibration=self._vendor_calibration(samples),
        )

    def _source(self, folder: Path) -> tuple[Kind, list[Path]]:
        if not self.native:
            path = folder / f"{self.model.name}.onnx"
            onnx.save(self.model.proto, str(path))
            return "onnx", [path]
        for source in self.model.sources:
            kind = _NATIVE.get(source.suffix.lower())
            if kind == "caffe":
                networks = [s for s in self.model.sources if s.suffix.lower() == ".prototxt"]
                return kind, [source.resolve(), *(n.resolve() for n in networks)]
            if kind:
                return kind, [source.resolve()]
        raise AccelError(
            "parser=native needs a TorchScript, Caffe or TensorFlow file",
            code="usage.option",
            cause=f"the model came from {', '.join(s.name for s in self.model.sources) or 'memory'}",
        )

    def _vendor_calibration(self, folder: Path) -> VendorCalibration | None:
        options = self.options
        if not self.numerics.quantized or options.calibrator != "vendor":
            return None
        algorithm = "linear" if options.method == "auto" else options.method
        if algorithm not in ("linear", "eqnm"):
            raise AccelError(
                f"MagicMind's calibrator has no method {algorithm!r}",
                code="usage.method",
                hints=["It has linear and eqnm; ours (--calibrator accel) has minmax, percentile, kl, mse, aciq."],
            )
        if algorithm == "eqnm" and self.mlu.asymmetric:
            raise AccelError("eqnm is for symmetric codes only", code="usage.method", hints=["Use --method linear."])
        if options.dataset is None:
            raise AccelError("the SDK's calibrator needs samples", code="usage.calibration", hints=["Give --data."])
        place = folder / "calibration"
        place.mkdir()
        files: list[list[str]] = [[] for _ in self.model.inputs]
        for number, batch in enumerate(self._batches()):
            for index, array in enumerate(batch):
                file = place / f"{number:05d}-{index}.npy"
                np.save(file, array, allow_pickle=False)
                files[index].append(str(file))
        if not files[0]:
            raise AccelError(f"fewer samples than the batch of {self.batches[0]}", code="usage.calibration")
        return VendorCalibration("eqnm" if algorithm == "eqnm" else "linear", tuple(map(tuple, files)), self.mlu.remote)

    def _batches(self) -> Iterator[list[np.ndarray]]:
        """Samples stacked to the network's batch; a last incomplete stack is named and left out."""
        assert self.options.dataset is not None
        names = [spec.name for spec in self.model.inputs]
        held: list[list[np.ndarray]] = [[] for _ in names]
        for sample in self.options.dataset:
            for place, name in zip(held, names, strict=True):
                place.append(np.asarray(sample.inputs[name]))
            if sum(len(a) for a in held[0]) >= self.batches[0]:
                yield [np.concatenate(arrays)[: self.batches[0]] for arrays in held]
                held = [[] for _ in names]
        if held[0]:
            self.notes.append(f"the last {len(held[0])} calibration samples do not fill a batch and were left out")

    def manifest(self, payload: str) -> Manifest:
        """What the build knows; the driver completes it."""
        uint8 = sorted(self.config.input_bn)
        inputs = [_seen(s, i, self) for i, s in enumerate(self.model.inputs)]
        outputs = [_seen(s, None, self) for s in self.model.outputs]
        return Manifest(
            schema=1,
            name=self.model.name,
            target=self.target.name,
            vendor=self.target.vendor,
            backend="vendor",
            precision=self.options.precision,
            payload=payload,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            batches=self.batches,
            files=(),
            model_digest=self.model.digest,
            preprocessing=replace(self.options.preprocessing, folded=True)
            if uint8 and self.options.preprocessing
            else self.options.preprocessing,
            passes=self.model.passes,
            nodes=node_numerics(self.model.proto, self.numerics, self.target.name),
            notes=tuple(self.notes),
            details={
                "builder_config": json.loads(self.config.as_json()),
                "uint8_inputs": [self.model.inputs[i].name for i in uint8],
                "shape_mutable": self.mutable,
            },
        )


def _seen(spec: TensorSpec, index: int | None, made: _Build) -> TensorSpec:
    """The input or output as the built model shows it."""
    shape: list[Dim] = list(spec.shape)
    if not shape:
        return spec
    shape[0] = "batch" if made.mutable else made.batches[0]
    span = made.config.dim_ranges.get(index) if index is not None else None
    for axis, (low, high) in enumerate(zip(span.low, span.high, strict=True) if span else ()):
        if low != high:
            shape[axis] = "batch" if axis == 0 else f"{spec.name}_dim{axis}"
    changes = made.config.input_layouts if index is not None else made.config.output_layouts
    at = index if index is not None else next(i for i, o in enumerate(made.model.outputs) if o.name == spec.name)
    change = changes.get(at)
    if change is not None:
        shape = [shape[change.src.index(axis)] for axis in change.dst]
    return replace(spec, shape=tuple(shape))


def _static(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    free = [d for d in spec.shape[1:] if not isinstance(d, int)]
    if free:
        raise AccelError(
            f"input {spec.name} has the free size {free[0]!r}",
            code="usage.shape",
            hints=[f"Give its shape: --input-shape {spec.name}=1,3,224,224 (dim_range may widen it afterwards)."],
        )
    sizes = [d for d in spec.shape[1:] if isinstance(d, int)]
    return (batch, *sizes) if spec.shape else ()


def _layouts(asked: object) -> dict[int, LayoutChange]:
    found = {}
    for index, change in asked.items() if isinstance(asked, dict) else ():
        try:
            found[int(index)] = LayoutChange(str(change["src"]), str(change["dst"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AccelError(
                f"the layout change of {index!r} is not understood",
                code="usage.option",
                cause=str(error),
                hints=['For example {"0": {"src": "NCHW", "dst": "NHWC"}}.'],
            ) from error
    return found


def _has_int64(proto: onnx.ModelProto) -> bool:
    kinds = {i.data_type for i in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        kinds.add(value.type.tensor_type.elem_type)
    for node in proto.graph.node:
        kinds.update(a.t.data_type for a in node.attribute if a.HasField("t"))
    return bool(kinds & {onnx.TensorProto.INT64, onnx.TensorProto.DOUBLE, onnx.TensorProto.UINT64})


def _check_io(told: object, manifest: Manifest) -> None:
    """The built model must have the inputs and outputs we describe."""
    assert isinstance(told, dict)
    for side, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if len(told[side]) != len(specs):
            raise AccelError(
                f"MagicMind built a model with {len(told[side])} {side}, not {len(specs)}", code="failed.build"
            )

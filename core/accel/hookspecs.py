"""The contract between the driver and its plugins.

A plugin is a module or an object with methods of these names, marked with :data:`hookimpl`:

    from accel import hookimpl

    @hookimpl
    def accel_build(model, target, options, calibration, workspace):
        if target.vendor != "acme":
            return None
        ...

pluggy hands a hook only the arguments it names. The stage hooks are ``firstresult``: the plugin of
the target is asked first, ``None`` means "not mine", and the embedded implementation answers last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from accel.artifact import Artifact
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.errors import ErrorHint
    from accel.model import Model
    from accel.options import BuildOptions, CalibrateOptions, EvaluateOptions, ParseOptions, RunOptions
    from accel.preprocessing import Preprocessing
    from accel.report import NodeSupport, Report
    from accel.runner import Runner
    from accel.target import Target
    from accel.task import Task
    from accel.toolchain.spec import Toolchain

PROJECT = "accel"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class AccelSpec:
    """Every hook, in the order a deployment meets them."""

    @hookspec(firstresult=True)
    def accel_parse(self, source: Path, options: ParseOptions) -> Model | None:
        """Read a network from ``source`` into ONNX.

        Return None when the file is not of a kind you read. Raise AccelError when it is, and broken.

        Example::

            @hookimpl
            def accel_parse(source, options):
                if source.suffix != ".acme":
                    return None
                return model_from_acme(source)
        """

    @hookspec(firstresult=True)
    def accel_calibrate(
        self, model: Model, dataset: Dataset, target: Target | None, options: CalibrateOptions
    ) -> Calibration | None:
        """Measure the activations of ``model`` over ``dataset``.

        Implement it only if your chip needs other statistics than the embedded histogram gives.

        Example::

            @hookimpl
            def accel_calibrate(model, dataset, target, options):
                if target is None or target.vendor != "acme":
                    return None
                return measure_like_acme(model, dataset)
        """

    @hookspec(firstresult=True)
    def accel_build(
        self,
        model: Model,
        target: Target,
        options: BuildOptions,
        calibration: Calibration | None,
        workspace: Path,
    ) -> Artifact | None:
        """Compile ``model`` for ``target``.

        Work inside ``workspace`` (empty, yours, deleted afterwards); leave the artifact in a directory
        inside it. The driver moves it to its place in one rename. Return None when
        ``options.backend == "reference"`` or the target is not yours; with ``auto``, return None when
        your toolchain is not installed (the driver says so and the reference builds).

        Example::

            @hookimpl
            def accel_build(model, target, options, calibration, workspace):
                if target.vendor != "acme" or options.backend == "reference":
                    return None
                return build_with_acmec(model, target, options, calibration, workspace)
        """

    @hookspec(firstresult=True)
    def accel_commands(self, model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]] | None:
        """The command lines of the vendor's tools that :meth:`accel_build` would run, in order, for ``accel compile
        --show-args``. Run none of them and write nothing; name files as the build does, without their folders.

        Example::

            @hookimpl
            def accel_commands(model, target, options):
                if target.vendor != "acme" or options.backend == "reference":
                    return None
                return [["acmec", "--chip", target.arch, f"{model.name}.onnx"]]
        """

    @hookspec(firstresult=True)
    def accel_run(self, artifact: Artifact, options: RunOptions) -> Runner | None:
        """Open an artifact for inference, on a device or in a simulator.

        Example::

            @hookimpl
            def accel_run(artifact, options):
                if artifact.manifest.payload != "acme":
                    return None
                return AcmeRunner(artifact, options)
        """

    @hookspec(firstresult=True)
    def accel_evaluate(
        self, runner: Runner, dataset: Dataset, task: Task | None, options: EvaluateOptions
    ) -> Report | None:
        """Measure how right a runner is. The embedded evaluator serves every runner; implement this
        only where a device evaluates by itself.

        Example::

            @hookimpl
            def accel_evaluate(runner, dataset, task, options):
                if not isinstance(runner, AcmeBoard):
                    return None
                return runner.evaluate_on_board(dataset, task)
        """

    @hookspec
    def accel_toolchains(self) -> Sequence[Toolchain]:
        """The toolchains this plugin needs, for ``accel toolchain`` and ``accel doctor``.

        Example::

            @hookimpl
            def accel_toolchains():
                return [ACME_TOOLCHAIN]
        """

    @hookspec(firstresult=True)
    def accel_check(self, model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport] | None:
        """Say for each node whether ``target`` runs it, where and why not, before a long build.

        Example::

            @hookimpl
            def accel_check(model, target, options):
                if target.vendor != "acme":
                    return None
                return [NodeSupport(n.name, n.op_type, n.op_type in ACME_OPS) for n in model.proto.graph.node]
        """

    @hookspec(firstresult=True)
    def accel_perf(self, artifact: Artifact, options: RunOptions) -> Report | None:
        """Speed and memory of an artifact: measured on a device, simulated by the vendor's estimator or
        predicted by a roofline, and labelled so.

        Example::

            @hookimpl
            def accel_perf(artifact, options):
                if artifact.manifest.payload != "acme":
                    return None
                return report_from_profile(artifact.file("profile"))
        """

    @hookspec(firstresult=True)
    def accel_inspect(self, path: Path) -> Report | None:
        """Describe a vendor's file (``.bmodel``, ``.hbm``) or an artifact's payload.

        Example::

            @hookimpl
            def accel_inspect(path):
                return report_from_acme(path) if path.suffix == ".acme" else None
        """

    @hookspec(firstresult=True)
    def accel_combine(self, artifacts: Sequence[Artifact], workspace: Path) -> Artifact | None:
        """Put several artifacts of one target into one file (batch sizes of one network).

        Example::

            @hookimpl
            def accel_combine(artifacts, workspace):
                if any(a.manifest.payload != "acme" for a in artifacts):
                    return None
                return acme_link(artifacts, workspace)
        """

    @hookspec
    def accel_error_hints(self) -> Sequence[ErrorHint]:
        """Messages of your tools and what they mean.

        Example::

            @hookimpl
            def accel_error_hints():
                return [ErrorHint(r"Op not support:\\{'(?P<op>\\w+)'", "the compiler has no {op}")]
        """

    @hookspec(firstresult=True)
    def accel_dataset(
        self, source: str, model: Model, preprocessing: Preprocessing | None, options: dict[str, str]
    ) -> Dataset | None:
        """Open a data set: a folder, a list file, an archive, by its path or ``kind:path``.

        Example::

            @hookimpl
            def accel_dataset(source, model, preprocessing, options):
                if not source.startswith("acme:"):
                    return None
                return AcmeDataset(source, model.inputs, preprocessing)
        """

    @hookspec(firstresult=True)
    def accel_task(self, name: str, options: dict[str, str]) -> Task | None:
        """Make the task called ``name``.

        Example::

            @hookimpl
            def accel_task(name, options):
                return PoseTask(options) if name == "pose" else None
        """

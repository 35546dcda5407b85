"""Looking before and after: what runs where, how fast it is, what a file holds; and joining artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel.artifact import Artifact
from accel.asking import known_hints, load_vendor_of, open_artifact, resolve
from accel.errors import AccelError, stage
from accel.options import BuildOptions, RunOptions
from accel.plugins import hooks
from accel.progress import step

if TYPE_CHECKING:
    from accel.model import Model
    from accel.report import NodeSupport, Report
    from accel.target import Target


def check(model: Model, target: str | Target, options: BuildOptions | None = None) -> Sequence[NodeSupport]:
    """Whether, where and why not ``target`` runs each node, before a long build."""
    found, asked = resolve(target), options or BuildOptions()
    from accel import parsing

    with stage("prepare"):
        model = parsing.prepare(model, asked.passes)
    with stage("check", hints=known_hints):
        found.numerics_for(asked.precision)
        nodes: Sequence[NodeSupport] | None = hooks().accel_check(model=model, target=found, options=asked)
        if nodes is None:
            raise AccelError(f"nobody checks models for {found.name}", code="unsupported.check")
        return nodes


def commands(model: Model, target: Target, options: BuildOptions) -> Sequence[Sequence[str]]:
    """The vendor's command lines of a build, without running any; none where the embedded reference builds."""
    from accel import parsing
    from accel.jobs import environment_of, toolchain_of

    with stage("build", hints=known_hints):
        toolchain = toolchain_of(target)
        if options.backend == "reference" or (options.backend == "auto" and environment_of(toolchain) is None):
            return []
        prepared = parsing.prepare(model, options.passes)
        found: Sequence[Sequence[str]] | None = hooks(target).accel_commands(
            model=prepared, target=target, options=options
        )
        return found or []


def perf(artifact: Artifact | str | Path, options: RunOptions | None = None) -> Report:
    """Speed and memory of an artifact: measured, simulated or predicted, and labelled so."""
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    load_vendor_of(opened)
    with stage("perf", hints=known_hints):
        report: Report | None = hooks().accel_perf(artifact=opened, options=options or RunOptions())
        if report is None:
            raise AccelError(
                f"nobody has performance figures for {opened.path}",
                code="unsupported.perf",
                cause=f"it is a {opened.manifest.payload} artifact of {opened.manifest.target}",
                hints=["Build it with the vendor's compiler: --backend vendor"],
            )
        return report


def inspect(path: str | Path) -> Report:
    """Describe an artifact's payload or a vendor's file."""
    place = Path(path)
    if not place.exists():
        raise AccelError(f"there is no file {place}", code="usage.missing-file", stage="inspect")
    with stage("inspect", hints=known_hints):
        report: Report | None = hooks(every_vendor=True).accel_inspect(path=place)
        if report is None:
            raise AccelError(
                f"no installed plugin reads {place}",
                code="usage.file-kind",
                hints=["Give an artifact's folder, an ONNX file, or a vendor's compiled file."],
            )
        return report


def inspect_artifact(artifact: Artifact) -> Report | None:
    """What the plugins know of an artifact's payload beyond its manifest; None when nobody does."""
    load_vendor_of(artifact)
    with stage("inspect", hints=known_hints):
        report: Report | None = hooks().accel_inspect(path=artifact.path)
        return report


def combine(artifacts: Sequence[Artifact | str | Path], output: str | Path) -> Artifact:
    """Put several artifacts of one target into one (batch sizes of one network)."""
    from accel import building

    opened = [a if isinstance(a, Artifact) else open_artifact(a) for a in artifacts]
    with stage("combine", hints=known_hints):
        if len(opened) < 2:
            raise AccelError("combine needs at least two artifacts", code="usage.combine")
        if len({(a.manifest.target, a.manifest.payload) for a in opened}) > 1:
            raise AccelError(
                "the artifacts are not of one target and form",
                code="usage.combine",
                cause=", ".join(f"{a.path.name}: {a.manifest.target} {a.manifest.payload}" for a in opened),
            )
        load_vendor_of(opened[0])

        def work(workspace: Path) -> Artifact:
            made: Artifact | None = hooks().accel_combine(artifacts=opened, workspace=workspace)
            if made is None:
                raise AccelError(
                    f"{opened[0].manifest.payload} artifacts of {opened[0].manifest.target} cannot be combined",
                    code="unsupported.combine",
                )
            return made

        with step("combine"):
            return building.publish(work, Path(output))

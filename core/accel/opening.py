"""Data sets and tasks by name: what goes into a network and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.artifact import Artifact
from accel.errors import AccelError, stage
from accel.plugins import hooks

if TYPE_CHECKING:
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.preprocessing import Preprocessing
    from accel.task import Task


def require_data(source: str | Path) -> None:
    """Fail before any work where samples are named by a path and nothing is there.

    Raises:
        AccelError: ``data.unreadable``. A ``kind:path`` is left to its reader.
    """
    if ":" not in str(source) and not Path(source).exists():
        raise AccelError(
            f"cannot read the data set {source}",
            code="data.unreadable",
            stage="data",
            cause="no such file or folder",
            hints=["Check the path and its permissions."],
        )


def open_dataset(
    source: str | Path,
    model: Model | Artifact,
    preprocessing: Preprocessing | None = None,
    options: Mapping[str, str] | None = None,
) -> Dataset:
    """Open samples by path (folder, list file, npz ...) or ``kind:path``, shaped for the model's inputs.

    Args:
        source: Where they are.
        model: Gives the inputs; of an artifact also the preprocessing, unless one is given.
        preprocessing: How pictures become inputs.
        options: The reader's own: ``samples``, ``skip_bad``, ``labels``, ``root`` ...

    Raises:
        AccelError: ``usage.data`` when nobody knows how to read ``source``; ``data.*`` when it is broken.
    """
    with stage("data"):
        if isinstance(model, Artifact):
            preprocessing = preprocessing or model.manifest.preprocessing
            model = _stand_in(model)
        found: Dataset | None = hooks().accel_dataset(
            source=str(source), model=model, preprocessing=preprocessing, options=dict(options or {})
        )
        if found is None:
            there = Path(source).exists()
            raise AccelError(
                f"cannot read the data {str(source)!r}",
                code="usage.data",
                cause="no data set reader knows its form" if there else "there is no such file or folder",
                hints=["Give a folder of pictures, a list file, an .npz, or KIND:PATH."],
            )
        return found


def make_task(name: str, options: Mapping[str, str] | None = None, artifact: Artifact | None = None) -> Task:
    """The task called ``name`` (``classification`` ...).

    With an ``artifact`` the task takes over what its manifest says and the options do not: class names, and the
    parameters of a detection head that was cut off.

    Raises:
        AccelError: ``usage.task`` when no plugin brings it.
    """
    with stage("evaluate"):
        task: Task | None = hooks().accel_task(name=name, options=dict(options or {}))
        if task is None:
            from accel.builtin.tasks import NAMES

            known = f"Tasks that ship with accel: {', '.join(NAMES)}."
            raise AccelError(f"there is no task {name!r}", code="usage.task", hints=[known])
        if artifact is not None:
            _introduce(task, artifact)
        return task


def _introduce(task: Any, artifact: Artifact) -> None:
    """Tell a task what the manifest knows."""
    if artifact.manifest.labels and getattr(task, "labels", None) == ():
        task.labels = artifact.manifest.labels
    metadata = artifact.manifest.details.get("metadata")
    if isinstance(metadata, Mapping) and hasattr(task, "adopt"):
        task.adopt(metadata)


def _stand_in(artifact: Artifact) -> Model:
    """What data sets need to know of a network: its inputs and outputs, no graph."""
    from accel.model import Model

    manifest = artifact.manifest
    nothing: Any = None
    return Model(nothing, manifest.name, manifest.inputs, manifest.outputs)

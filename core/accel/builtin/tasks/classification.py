"""Classification: one score a class, top-k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.builtin.datasets.labels import check_labels, read_labels
from accel.builtin.tasks.options import TaskOptions
from accel.dataset import Sample
from accel.errors import AccelError
from accel.report import Table

MISTAKES_SHOWN = 20


class Classification:
    """Top-k of one vector of scores.

    Options: ``topk`` (5), ``labels`` (file of names), ``output`` (name; default: the only output), ``softmax``
    (``auto``: unless the scores already are probabilities; ``yes``, ``no``), ``offset`` (index of class 0 in the
    output: 1 for networks with a background class in front).
    """

    name = "classification"

    def __init__(self, options: Mapping[str, str]) -> None:
        given = TaskOptions(self.name, options)
        self.topk = given.whole("topk", 5)
        self.output = given.text("output")
        self.softmax = given.text("softmax", "auto", ("auto", "yes", "no"))
        self.offset = given.whole("offset", 0)
        labels = given.text("labels")
        given.done()
        if self.topk < 1:
            raise AccelError("topk must be at least 1", code="usage.task")
        self.labels = read_labels(Path(labels)) if labels else ()

    def decode(self, outputs: Mapping[str, np.ndarray], sample: Sample) -> dict[str, Any]:
        """``{"classes": [{"index", "label", "score"}, ...]}``, best first; classes without a finite score are left out.

        Raises:
            AccelError: ``evaluate.output`` when the outputs hold no vector of scores, ``data.labels`` when there
                are fewer names than classes.
        """
        raw = self._raw(outputs)
        scores = self._shown(raw)
        check_labels(self.labels, len(scores), "the network's output")
        order = np.argsort(-raw, kind="stable")[: self.topk]
        return {
            "classes": [
                {
                    "index": int(i),
                    "label": self.labels[int(i)] if self.labels else str(int(i)),
                    "score": float(scores[i]),
                }
                for i in order
                if np.isfinite(raw[i])
            ]
        }

    def _raw(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        array = pick_output(outputs, self.output, self.name)
        if array.ndim < 2 or array.shape[0] != 1 or array.size != max(array.shape):
            raise AccelError(
                f"the output of shape {list(array.shape)} is not one score a class",
                code="evaluate.output",
                hints=["Name another output (output=NAME) or another task."],
            )
        raw: np.ndarray = array.ravel().astype(np.float64)[self.offset :]
        return raw

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        probabilities = bool(np.all((scores >= 0) & (scores <= 1)) and abs(scores.sum() - 1) < 0.02)
        if self.softmax == "yes" or (self.softmax == "auto" and not probabilities):
            with np.errstate(invalid="ignore"):
                finite = scores[np.isfinite(scores)]
                scores = np.exp(scores - (finite.max() if finite.size else 0.0))
                scores = scores / np.nansum(scores)
        return scores

    def meter(self) -> ClassificationMeter:
        """Counts hits."""
        return ClassificationMeter(self.topk)

    def draw(self, prediction: Any, sample: Sample, path: Path) -> None:
        """The picture with its classes written on it."""
        from accel.builtin.datasets.pictures import open_picture
        from accel.builtin.tasks.drawing import save_picture, write_lines

        picture = open_picture(sample).convert("RGB")
        write_lines(picture, [f"{c['label']}  {c['score']:.3f}" for c in prediction["classes"]])
        save_picture(picture, path)


class ClassificationMeter:
    """Top-1 and top-k over labelled samples."""

    def __init__(self, topk: int) -> None:
        self.topk = topk
        self.count = self.unlabelled = self.top1 = self.hits = 0
        self.empty = 0
        self._seen: Counter[int] = Counter()
        self._right: Counter[int] = Counter()
        self._mistakes: list[tuple[object, ...]] = []

    def add(self, prediction: Any, sample: Sample) -> None:
        """Count one prediction."""
        if sample.label is None:
            self.unlabelled += 1
            return
        label = int(sample.label)
        found = [c["index"] for c in prediction["classes"]]
        self.empty += not found
        self.count += 1
        self._seen[label] += 1
        self.hits += label in found
        if found and found[0] == label:
            self.top1 += 1
            self._right[label] += 1
        elif len(self._mistakes) < MISTAKES_SHOWN:
            best = prediction["classes"][0]["label"] if found else "no finite score"
            self._mistakes.append((sample.name, label, best, label in found))

    def metrics(self) -> Mapping[str, float]:
        """``top1`` and ``top<k>``, 0..1; nothing when no sample had a label."""
        if not self.count:
            return {}
        figures = {"top1": self.top1 / self.count}
        if self.topk > 1:
            figures[f"top{self.topk}"] = self.hits / self.count
        return figures

    def tables(self) -> Sequence[Table]:
        """Accuracy by class (up to 100 classes) and the first mistakes."""
        tables = []
        if 1 < len(self._seen) <= 100 and self.count > len(self._seen):
            rows = tuple((c, n, self._right[c] / n) for c, n in sorted(self._seen.items()))
            tables.append(Table("classes", ("class", "samples", "top1"), rows))
        if self._mistakes:
            columns = ("sample", "class", "answer", f"in top {self.topk}")
            tables.append(Table(f"mistakes (the first {MISTAKES_SHOWN})", columns, tuple(self._mistakes)))
        return tables

    def notes(self) -> list[str]:
        """What the figures leave out."""
        said = []
        if self.unlabelled:
            said.append(f"{self.unlabelled} samples have no label and do not count for top-1 and top-{self.topk}")
        if self.empty:
            said.append(f"{self.empty} samples gave no finite score and count as wrong")
        return said


def pick_output(outputs: Mapping[str, np.ndarray], name: str, task: str) -> np.ndarray:
    """The output called ``name``, or the only one.

    Raises:
        AccelError: ``evaluate.output`` when there is none or the choice is open.
    """
    if name and name in outputs:
        return outputs[name]
    if not name and len(outputs) == 1:
        return next(iter(outputs.values()))
    raise AccelError(
        f"the network has no output {name!r}" if name else f"the network has {len(outputs)} outputs",
        code="evaluate.output",
        cause=f"outputs: {', '.join(outputs)}",
        hints=[f"Name the one that {task} reads with the option output=NAME."],
    )

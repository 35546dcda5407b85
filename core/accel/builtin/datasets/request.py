"""What opening a data set is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel.builtin.datasets.labels import read_labels
from accel.builtin.datasets.pictures import Preprocessor
from accel.errors import AccelError
from accel.preprocessing import Preprocessing

if TYPE_CHECKING:
    from accel.model import TensorSpec


class Request:
    """What was asked for: the path, the network's inputs, the preprocessing and the options."""

    def __init__(
        self,
        path: Path,
        inputs: Sequence[TensorSpec],
        preprocessing: Preprocessing | None,
        options: Mapping[str, str],
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.preprocessing = preprocessing or Preprocessing()
        self.options = options

    def preprocessor(self) -> Preprocessor:
        """For the only input; AccelError ``usage.input`` when there are several."""
        if len(self.inputs) != 1:
            names = ", ".join(spec.name for spec in self.inputs)
            raise AccelError(
                f"pictures feed one input and the network has {len(self.inputs)}: {names}",
                code="usage.input",
                hints=["Use .npz files with an array for each input."],
            )
        return Preprocessor(self.preprocessing, self.inputs[0])

    def labels(self) -> tuple[str, ...]:
        """Class names of the option ``labels``, or ()."""
        return read_labels(Path(self.options["labels"])) if self.options.get("labels") else ()

    def folder(self, option: str) -> Path | None:
        """A path given as an option."""
        return Path(self.options[option]) if self.options.get(option) else None

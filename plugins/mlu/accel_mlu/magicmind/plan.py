"""What the vendor's side is asked to build: plain JSON values, the same for the worker and the emitted script."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Kind = Literal["onnx", "pytorch", "caffe", "tensorflow"]


@dataclass(frozen=True)
class VendorCalibration:
    """The SDK's own calibration.

    Attributes:
        algorithm: ``linear`` or ``eqnm``; there is no KL.
        samples: For each input the files of its samples.
        remote: ``host:port`` of a machine with a card; empty: a card of this one.
        device: Which card of this machine.
    """

    algorithm: Literal["linear", "eqnm"]
    samples: tuple[tuple[str, ...], ...]
    remote: str = ""
    device: int = 0


@dataclass(frozen=True)
class BuildPlan:
    """One MagicMind build.

    Attributes:
        kind: Which parser reads ``files``.
        files: In the parser's order: Caffe's are weights, then network.
        shapes: Of every input.
        dtypes: NumPy names of the inputs' types (TorchScript files do not hold them).
        tf_inputs: Names of inputs in a TensorFlow graph.
        tf_outputs: Names of outputs in a TensorFlow graph.
        configs: JSON texts for ``parse_from_string``, in order.
        calibration: None: the configuration holds the ranges, or nothing is quantised.
        name: Of the model.
        output: File to write.
    """

    kind: Kind
    files: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    configs: tuple[str, ...]
    name: str
    output: str
    dtypes: tuple[str, ...] = ()
    tf_inputs: tuple[str, ...] = ()
    tf_outputs: tuple[str, ...] = ()
    calibration: VendorCalibration | None = None

    def relative_to(self, folder: Path) -> BuildPlan:
        """The same plan with paths inside ``folder`` relative to it; files elsewhere keep only their names."""

        def inside(path: str) -> str:
            return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else Path(path).name

        told = self.calibration
        if told is not None:
            told = replace(told, samples=tuple(tuple(map(inside, files)) for files in told.samples))
        return replace(self, files=tuple(map(inside, self.files)), output=inside(self.output), calibration=told)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value


_CUT = "# --- below here: only for the worker ---"


def script(plan: BuildPlan) -> str:
    """Python that does this build inside the vendor's container; its paths are relative to its own folder."""
    body = (Path(__file__).parent / "sdk.py").read_text(encoding="utf-8").split(_CUT)[0]
    docstring = ast.parse(body).body[0].end_lineno or 0
    kept = [line for line in body.splitlines()[docstring:] if not line.startswith(("# mypy:", "# ruff:"))]
    lines = [f"    {key!r}: {value!r}," for key, value in plan.as_dict().items()]
    parts = [
        f'"""Builds {plan.output} from {", ".join(plan.files)} with MagicMind.',
        "",
        "Run it with the SDK's Python (3.7 or newer), in a container that has MagicMind: python3 build_magicmind.py",
        '"""',
        "",
        "\n".join(kept).strip(),
        "",
        "",
        "PLAN = {",
        *lines,
        "}",
        "",
        "",
        'if __name__ == "__main__":',
        "    os.chdir(os.path.dirname(os.path.abspath(sys.argv[0])))",
        '    print("wrote", PLAN["output"], build(PLAN))',
        "",
    ]
    return "\n".join(parts)

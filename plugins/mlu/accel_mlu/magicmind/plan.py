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
    sdk = Path(__file__).parent / "sdk.py"
    title = f"Builds {plan.output} from {', '.join(plan.files)} with MagicMind."
    return script_text(sdk, title, "build_magicmind.py", plan.as_dict(), 'PLAN["output"], build(PLAN)')


def script_text(sdk: Path, title: str, name: str, plan: Mapping[str, Any], said: str) -> str:
    """A vendor-side file as a script: its functions, the plan as a literal, and a call.

    Args:
        sdk: The vendor-side file; what stands below its cut is for the worker only.
        title: First line of the script's docstring.
        name: What the script is called.
        plan: JSON values.
        said: Expression that builds and is printed.
    """
    body = sdk.read_text(encoding="utf-8").split(_CUT)[0]
    docstring = ast.parse(body).body[0].end_lineno or 0
    kept = [line for line in body.splitlines()[docstring:] if not line.startswith(("# mypy:", "# ruff:"))]
    parts = [
        f'"""{title}',
        "",
        f"Run it with the vendor's Python, inside the vendor's container: python3 {name}",
        '"""',
        "",
        "\n".join(kept).strip(),
        "",
        "",
        "PLAN = {",
        *(f"    {key!r}: {value!r}," for key, value in plan.items()),
        "}",
        "",
        "",
        'if __name__ == "__main__":',
        "    os.chdir(os.path.dirname(os.path.abspath(sys.argv[0])))",
        f'    print("wrote", {said})',
        "",
    ]
    return "\n".join(parts)

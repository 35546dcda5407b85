"""Reading the compiler's MLIR text: which operation computes which named value, in what type.

Only what the driver needs of the format; the compiler writes one operation a line and names the values in location
lines at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from accel.errors import AccelError

_OP = re.compile(r'^\s*(?:(%\w+(?::\d+)?(?:, %\w+)*) = )?"([\w.]+)"\(([^)]*)\)')
_LOC_USE = re.compile(r"loc\((#loc\d*|\"(?:[^\"\\]|\\.)*\")\)\s*$")
_LOC_DEF = re.compile(r"^(#loc\d*) = loc\((.*)\)\s*$")
_STORED = re.compile(r"!quant\.uniform<(\w+):|x(si8|ui8|i8|u8|f16|bf16|f32|si32|i32)>|quant\.(calibrated)")
_TYPE = re.compile(r"\) -> (.*) loc\(")


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        kind: ``top.Conv``, ``tpu.Conv2D``, ``top.Weight``.
        names: Location names of its results.
        inputs: Location names of its operands (``""`` for absent ones).
        type: Type of its results, as written.
        text: The whole line.
    """

    kind: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    type: str
    text: str

    @property
    def name(self) -> str:
        """Name of the first result."""
        return self.names[0] if self.names else ""

    @property
    def precision(self) -> str:
        """What its first result is stored in: ``int8``, ``fp16``, ``bf16``, ``fp32`` or ``int32``."""
        found = _STORED.search(self.type)
        word = next((g for g in found.groups() if g), "f32") if found else "f32"
        if word[-1:] == "8":
            return "int8"
        return {"f16": "fp16", "bf16": "bf16", "i32": "int32", "si32": "int32", "i16": "int16"}.get(word, "fp32")

    @property
    def step(self) -> float | None:
        """Real value of one code of its first result, None when it is not quantised."""
        found = re.search(r"!quant\.uniform<\w+:f32, ([-+.\deE]+)", self.type)
        return float(found.group(1)) if found else None

    def integers(self, attribute: str) -> tuple[int, ...]:
        """An integer-list attribute such as ``rshift = [7]``; empty when absent."""
        found = re.search(rf"\b{attribute} = \[([-\d, ]*)\]", self.text)
        return tuple(int(n) for n in found.group(1).split(",") if n.strip()) if found else ()


@dataclass(frozen=True)
class Module:
    """A parsed file.

    Attributes:
        attributes: Of the module: ``module.chip``, ``module.weight_file`` ...
        ops: In the order they run.
    """

    attributes: Mapping[str, str]
    ops: tuple[Op, ...]

    @cached_property
    def by_name(self) -> dict[str, Op]:
        """Operations by the name of each result."""
        return {name: op for op in self.ops for name in op.names}

    def values(self) -> list[Op]:
        """Operations that compute something from the input: no weights, no constants."""
        return [op for op in self.ops if op.names and op.kind not in ("top.Weight", "top.None")]

    @property
    def weight_file(self) -> str:
        """File name of the weights, beside the MLIR file."""
        return self.attributes.get("module.weight_file", "")


def read(path: Path) -> Module:
    """Parse a file.

    Raises:
        AccelError: ``failed.compiler`` when it is no MLIR of this compiler.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccelError(
            f"the compiler left no readable {path.name}", code="failed.compiler", cause=str(error)
        ) from error
    locations: dict[str, tuple[str, ...]] = {}
    raw: dict[str, str] = {}
    for line in lines:
        found = _LOC_DEF.match(line)
        if found:
            raw[found.group(1)] = found.group(2)

    def names_of(text: str) -> tuple[str, ...]:
        text = text.strip()
        if text.startswith('"'):
            return (_unescape(text[1:-1]),)
        if text.startswith("#loc"):
            if text not in locations:
                locations[text] = ()
                locations[text] = names_of(raw.get(text, "unknown"))
            return locations[text]
        if text.startswith("fused["):
            return tuple(n for part in _split(text[6:].rstrip("]")) for n in names_of(part))
        return ()

    ops: list[Op] = []
    values: dict[str, tuple[str, ...]] = {}
    for line in lines:
        found = _OP.match(line)
        if not found:
            continue
        where = _LOC_USE.search(line)
        names = names_of(where.group(1)) if where else ()
        inputs = tuple(_value(v.strip(), values) for v in found.group(3).split(",") if v.strip())
        results = [r.strip().partition(":")[0] for r in (found.group(1) or "").split(",")]
        if len(results) > 1:  # each result under a name of its own: %indices, %values = ...
            values.update((r, names[at : at + 1]) for at, r in enumerate(results))
        elif results[0]:
            values[results[0]] = names
        type_ = _TYPE.search(line)
        ops.append(Op(found.group(2), names if found.group(1) else (), inputs, type_.group(1) if type_ else "", line))
    head = next((line for line in lines if line.startswith("module ")), "")
    if not ops or not head:
        raise AccelError(f"{path.name} is no MLIR of this compiler", code="failed.compiler")
    attributes = {k: v.strip('"') for k, v in re.findall(r'(module\.\w+) = ("[^"]*"|[^,}]+)', head)}
    return Module(attributes, tuple(ops))


def _value(text: str, values: Mapping[str, tuple[str, ...]]) -> str:
    name, _, index = text.partition("#")
    names = values.get(name, ())
    at = int(index) if index else 0
    return names[at] if at < len(names) else ""


def _split(text: str) -> list[str]:
    return re.findall(r'"(?:[^"\\]|\\.)*"|#loc\d*', text)


def _unescape(text: str) -> str:
    # MLIR writes other bytes than printable ASCII as \XX.
    plain = re.sub(r"\\([0-9A-Fa-f]{2})", lambda m: chr(int(m.group(1), 16)), text)
    plain = plain.replace('\\"', '"').replace("\\\\", "\\")
    try:
        return plain.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return plain

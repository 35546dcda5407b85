"""Working on ``.bmodel`` files with the vendor's ``model_tool``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accel.errors import AccelError

from accel_sophon.commands import Bench
from accel_sophon.hints import explain


@dataclass(frozen=True)
class Tensor:
    """An input or output of a stage."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Stage:
    """One shape of a network."""

    number: int
    cores: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Net:
    """One network of a file."""

    name: str
    kind: str
    """``static`` or ``dynamic``."""
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Info:
    """What ``model_tool --info`` says.

    Attributes:
        version: Of the format and of the compiler.
        chip: As the file names it.
        created: When it was compiled.
        nets: Networks.
        memory: Bytes by name: ``device``, ``weight``, ``instruct``, ``runtime``, ``host``.
    """

    version: str
    chip: str
    created: str
    nets: tuple[Net, ...]
    memory: dict[str, int] = field(default_factory=dict)


_TENSOR = re.compile(r"(input|output): (.*), \[([-\d, ]*)\], (\w+), scale: ([-+.\deE]+), zero_point: (-?\d+)")


def parse_info(text: str) -> Info:
    """Read the output of ``model_tool --info``.

    Raises:
        AccelError: ``failed.bmodel`` when it is something else.
    """
    fields = dict(re.findall(r"^(bmodel version|chip|create time): *(.*)$", text, re.M))
    if "bmodel version" not in fields:
        raise AccelError("the file is no bmodel", code="failed.bmodel", cause=text.strip()[:200])
    nets: list[Net] = []
    stages: list[Stage] = []
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for line in text.splitlines():
        net = re.match(r"net (\d+): \[(.*)\]\s+(\w+)", line)
        stage = re.match(r"stage (\d+), core num: (\d+)", line)
        tensor = _TENSOR.match(line)
        if net:
            stages = []
            nets.append(Net(net.group(2), net.group(3), ()))
        elif stage:
            inputs, outputs = [], []
            stages.append(Stage(int(stage.group(1)), int(stage.group(2)), (), ()))
        elif tensor:
            shape = tuple(int(d) for d in tensor.group(3).split(",") if d.strip())
            made = Tensor(tensor.group(2), shape, tensor.group(4), float(tensor.group(5)), int(tensor.group(6)))
            (inputs if tensor.group(1) == "input" else outputs).append(made)
        if nets and stages:
            stages[-1] = Stage(stages[-1].number, stages[-1].cores, tuple(inputs), tuple(outputs))
            nets[-1] = Net(nets[-1].name, nets[-1].kind, tuple(stages))
    memory = {}
    for label, pattern in (("device", r"device mem size: (\d+)"), ("host", r"host mem size: (\d+)")):
        found = re.search(pattern, text)
        if found:
            memory[label] = int(found.group(1))
    detail = re.search(r"device mem size: \d+ \(weight: (\d+), instruct: (\d+), runtime: (\d+)\)", text)
    if detail:
        memory.update(zip(("weight", "instruct", "runtime"), map(int, detail.groups()), strict=True))
    return Info(fields["bmodel version"], fields.get("chip", ""), fields.get("create time", ""), tuple(nets), memory)


def info(bench: Bench, path: Path) -> Info:
    """What is in a bmodel.

    Raises:
        AccelError: ``failed.bmodel`` for a truncated or foreign file.
    """
    log = bench.folder / "info.log"
    log.unlink(missing_ok=True)
    done = Bench(bench.env, bench.folder, log).program(
        "model_tool", ["--info", str(path.resolve())], "reading the bmodel", may_fail=True
    )
    if done.rc:
        raise AccelError(
            f"{path.name} cannot be read as a bmodel",
            code="failed.bmodel",
            cause=done.tail(2),
            hints=["It may be truncated, or of another vendor: build it again."],
        )
    return parse_info(done.text())


def combine_batches(bench: Bench, parts: Sequence[tuple[int, Path]], output: Path, *, chip: str) -> None:
    """Put one network at several batch sizes into one file.

    Two quirks are hidden: the largest batch must come first (the functional model crashes otherwise), and files for
    BM1684 carry a kernel module each that must be made equal before and dropped after.

    Raises:
        AccelError: ``failed.combine``.
    """
    folder = bench.folder / "combine"
    folder.mkdir()
    work = Bench(bench.env, folder, bench.log)
    ordered = [path for _, path in sorted(parts, key=lambda p: -p[0])]
    if chip == "bm1684":
        placeholder = folder / "kernel.bin"
        placeholder.write_bytes(b"accel")
        copies = []
        for at, path in enumerate(ordered):
            copy = folder / f"part{at}.bmodel"
            shutil.copyfile(path, copy)
            work.program("model_tool", ["--kernel_update", copy.name, placeholder.name], "preparing to combine")
            copies.append(copy)
        ordered = copies
    made = folder / "combined.bmodel"
    arguments = ["--combine", *(str(p.resolve()) for p in ordered), "-o", made.name]
    done = work.program("model_tool", arguments, "combining the batches")
    if not made.exists():
        raise explain(done, "combining the batches")
    if chip == "bm1684":
        done = work.program("model_tool", ["--kernel_remove", made.name], "combining the batches")
    found = info(work, made)
    stages = {tuple(t.shape for t in stage.inputs) for net in found.nets for stage in net.stages}
    if len(stages) != len(parts):
        raise AccelError(
            f"the combined bmodel holds {len(stages)} stages, not {len(parts)}", code="failed.combine", log=bench.log
        )
    shutil.move(made, output)
    shutil.rmtree(folder)

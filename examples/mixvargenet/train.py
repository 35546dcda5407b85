"""Writes the digits, and MixVarGENet trained on them in float. The toolchain ``torch`` must be installed.

python examples/mixvargenet/train.py [FOLDER] [--epochs 8]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from accel.builtin.frontends.toolchains import TORCH
from digits import pictures, split, write

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "zoo"))
from framework import run_script, told  # noqa: E402


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    write(given.folder)
    images, labels = pictures()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "digits.npz"
        np.savez(data, pictures=images, labels=labels, **split())
        out = given.folder.resolve() / "mixvargenet.onnx"
        run_script(TORCH, HERE / "training.py", data, out, given.epochs)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    told(main)

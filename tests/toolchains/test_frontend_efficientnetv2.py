"""EfficientNetV2-S from Keras to MLU370: SavedModel, parity, three precisions on the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accel.toolchain.spec import Environment
from PIL import Image
from support.cli import Cli
from support.frameworks import assert_parity, pixels, worker

SIDE = 128
"""Pixels; the network has 384, at nine times the cost."""
PRECISIONS = {"force_float32": 0.9999, "force_float16": 0.999, "qint8_mixed_float16": 0.75}
"""Least cosine of the logits to float, of a seeded network whose classes lie close together."""


@pytest.mark.slow
@pytest.mark.toolchain("tensorflow")
def test_saved_model_to_mlu370(tensorflow_toolchain: Environment, tmp_path: Path, cli: Cli) -> None:
    x, saved, data = pixels(6, SIDE), tmp_path / "saved", tmp_path / "photos"
    with worker(tensorflow_toolchain, "keras_nets.py", tmp_path) as keras:
        _, made = keras.call("make", {"name": "EfficientNetV2S", "path": str(saved)}, {"x": x})
    data.mkdir()
    for at, picture in enumerate(x):
        Image.fromarray(picture.astype(np.uint8)).save(data / f"{at}.png")
    net = tmp_path / "net.onnx"
    read = cli.json("parse", saved, "--shape", f"-1,{SIDE},{SIDE},3", "-o", net)
    assert read.code == 0, read.err
    pictures = ("-d", data, "--layout", "NHWC")
    words = ("-t", "mlu370-s4", "-p", ",".join(PRECISIONS), "--backend", "reference", "-o", tmp_path / "out")
    built = cli.json("compile", net, *words, *pictures)
    assert built.code == 0, built.err
    paths = {a["precision"]: Path(a["path"]) for a in built.data["artifacts"]}
    assert set(paths) == set(PRECISIONS)
    for precision, path in paths.items():
        done = cli("run", path, data, "--layout", "NHWC", "-o", tmp_path / f"{precision}.npz")
        assert done.code == 0, done.err
        with np.load(tmp_path / f"{precision}.npz") as arrays:
            got = next(arrays[name] for name in arrays.files if arrays[name].shape[-1] == 1000)
        if precision == "force_float32":
            assert_parity(made["y"], got)
        cosine = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(made["y"], got, strict=True)]
        assert min(cosine) >= PRECISIONS[precision], (precision, cosine)

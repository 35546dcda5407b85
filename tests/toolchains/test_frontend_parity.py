"""Networks of torchvision and Keras against their own frameworks, on real photos, outputs as large as trained ones.

A few run always; ``make parity`` runs all of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uv
from accel.builtin.prepare import verify
from accel.toolchain.spec import Environment
from accel.toolchain.worker import Worker
from make import PREPROCESSING
from support.frameworks import assert_parity, parse, pixels, worker

pytestmark = pytest.mark.slow
ALL = os.environ.get("ACCEL_PARITY") == "all"
TORCHVISION = {
    "always": ("mobilenet_v2", "shufflenet_v2_x1_0", "googlenet", "efficientnet_b0"),
    "parity": (
        "alexnet", "vgg11", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "squeezenet1_1", "densenet121",
        "mobilenet_v3_small", "mnasnet0_5", "regnet_y_400mf", "convnext_tiny", "swin_t",
    ),
}  # fmt: skip
KERAS = {
    "always": ("MobileNetV2",),
    "parity": ("MobileNetV3Small", "ResNet50", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "NASNetMobile"),
}
PHOTOS = 8


def chosen(names: dict[str, tuple[str, ...]]) -> list[object]:
    skip = pytest.mark.skipif(not ALL, reason="make parity runs all networks")
    return [*names["always"], *(pytest.param(n, marks=skip) for n in names["parity"])]


@pytest.fixture(scope="module")
def torchvision(torch_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("torchvision")
    command = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(folder / "site")]
    subprocess.run([*command, "--python", str(torch_toolchain.python), "torchvision==0.28.0", "pillow"], check=True)
    with worker(torch_toolchain, "torchvision_nets.py", folder, folder / "site") as up:
        yield up


@pytest.mark.toolchain("torch")
@pytest.mark.network
@pytest.mark.parametrize("name", chosen(TORCHVISION))
def test_torchvision_through_torchscript(name: str, torchvision: Worker, tmp_path: Path) -> None:
    how = PREPROCESSING["mobilenet-v2"]
    x = ((pixels(PHOTOS) * how.scale - how.mean) / how.std).transpose(0, 3, 1, 2).astype(np.float32)
    path = tmp_path / f"{name}.pt"
    _, made = torchvision.call("make", {"name": name, "path": str(path)}, {"x": x})
    model = parse(path, input_shapes={"": (-1, 3, 224, 224)})
    path.unlink()  # some have half a gigabyte
    assert model.inputs[0].shape[0] == "batch", model.notes
    (got,) = verify.run(model.proto, {model.inputs[0].name: x})
    print(f"{name}: {assert_parity(made['y'], got):.1e} of {np.abs(got).max():.1f}")


@pytest.fixture(scope="module")
def keras(tensorflow_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(tensorflow_toolchain, "keras_nets.py", tmp_path_factory.mktemp("keras")) as up:
        yield up


@pytest.mark.toolchain("tensorflow")
@pytest.mark.parametrize("name", chosen(KERAS))
def test_keras_applications_through_saved_model(name: str, keras: Worker, tmp_path: Path) -> None:
    x = pixels(PHOTOS)
    if not name.startswith(("MobileNetV3", "EfficientNet")):  # these scale 0..255 themselves
        x = x / 127.5 - 1
    path = tmp_path / "saved"
    _, made = keras.call("make", {"name": name, "path": str(path)}, {"x": x})
    model = parse(path, input_shapes={"": (-1, 224, 224, 3)})  # MobileNetV3 leaves its sizes open
    assert model.inputs[0].shape[0] == "batch", model.notes
    (got,) = verify.run(model.proto, {model.inputs[0].name: x})
    print(f"{name}: {assert_parity(made['y'], got):.1e} of {np.abs(got).max():.1f}")

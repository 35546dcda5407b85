"""``--frontend vendor``: the files stay what they are, and each value of theirs has its tensor in our reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from accel import driver, parsing
from accel.cache import Cache
from accel.errors import AccelError
from accel.model import VENDOR_TENSORS, Model
from accel.options import BuildOptions, ParseOptions
from accel_sophon.caffe import locations, output_blobs
from caffe_files import data, layer, write

NET = (
    data(1, 3, 8, 8)
    + layer("Scale", "scale_param { bias_term: true }", name="norm", tops="data")
    + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", name="conv", tops="map")
    + layer("BatchNorm", name="bn", bottoms="map", tops="map")
    + layer("ReLU", name="relu", bottoms="map", tops="map")
    + layer("Dropout", name="drop", bottoms="map", tops="map")
    + layer("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", name="pool", bottoms="map")
)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {
        "norm": [np.array([1.5, 2, 0.5]), np.array([0.1, 0.2, 0.3])],
        "conv": [rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)],
        "bn": [rng.standard_normal(4), rng.random(4) + 0.5, np.array([1.0])],
    }
    return write(tmp_path, NET, {k: [np.float32(a) for a in v] for k, v in weights.items()})


def unchanged(net: Path) -> Model:
    return driver.parse(net, ParseOptions(frontend="vendor"))


def test_nothing_is_merged_and_every_value_has_its_tensor(net: Path) -> None:
    model = driver.prepare(unchanged(net))
    assert model.vendor_reads and model.passes == ()
    written = json.loads(model.metadata[VENDOR_TENSORS])
    assert len(written["data"]) == 2 and len(written["map"]) == 3  # a Dropout writes nothing
    places = locations(written)
    assert places["data/1"] == "data" and places["map"] == written["map"][-1]
    assert places["map/2"] == written["map"][0] != places["map/1"]
    tensors = {o for n in model.proto.graph.node for o in n.output} | {"data"}
    assert set(places.values()) <= tensors
    assert output_blobs(model) == ["pool"]
    plain = driver.prepare(driver.parse(net))
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    with driver.run_float(model) as ours, driver.run_float(plain) as folded:
        (a,), (b,) = ours.run({"data": x}).values(), folded.run({"data": x}).values()
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_cache_remembers_it(net: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        model = driver.parse(net, ParseOptions(frontend="vendor"), cache=cache)
        assert model.vendor_reads and [s.suffix for s in model.sources] == [".prototxt", ".caffemodel"]
    assert not driver.parse(net, ParseOptions(), cache=cache).vendor_reads


@pytest.mark.parametrize(("target", "backend"), [("bm1684", "reference"), ("mlu370-s4", "auto")])
def test_only_who_reads_caffe_gets_it(net: Path, tmp_path: Path, target: str, backend: str) -> None:
    asked = BuildOptions(backend=backend, precision=driver.resolve(target).default_precision)  # type: ignore[arg-type]
    with pytest.raises(AccelError) as caught:
        driver.build(unchanged(net), target, tmp_path / "out", asked)
    assert caught.value.code in ("unsupported.frontend", "usage.calibration")
    assert caught.value.code == "unsupported.frontend"


def test_it_cannot_be_written_or_renamed(net: Path, tmp_path: Path) -> None:
    with pytest.raises(AccelError, match="nothing is written"):
        parsing.save_model(unchanged(net), tmp_path / "x.onnx")
    with pytest.raises(AccelError, match="keep their names"):
        driver.parse(net, ParseOptions(frontend="vendor", renames={"data": "x"}))


def test_other_formats_have_no_such_way(tmp_path: Path) -> None:
    import onnx
    from accel.testing.networks import tiny_model

    onnx.save(tiny_model().proto, tmp_path / "x.onnx")
    with pytest.raises(AccelError) as caught:
        driver.parse(tmp_path / "x.onnx", ParseOptions(frontend="vendor"))
    assert caught.value.code == "unsupported.frontend"

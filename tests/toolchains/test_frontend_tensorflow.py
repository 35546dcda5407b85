"""The TensorFlow frontend for real, on the toolchain ``tensorflow``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends.toolchains import TENSORFLOW
from accel.builtin.prepare import verify
from accel.toolchain.spec import Environment
from support.frameworks import failure, parse, python

pytestmark = pytest.mark.toolchain("tensorflow")

SMALL = """
import keras, numpy as np, tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
keras.utils.set_random_seed(0)
L = keras.layers
net = keras.Sequential([keras.Input((24, 24, 3), name="picture"), L.Conv2D(8, 3, padding="same", strides=2),
    L.BatchNormalization(), L.ReLU(6.0), L.DepthwiseConv2D(3, padding="same"), L.GlobalAveragePooling2D(),
    L.Dense(4, activation="softmax")])
net.layers[1].set_weights([w + 0.1 for w in net.layers[1].get_weights()])
net.save("net.keras"); net.save("net.h5"); net.export("saved")
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model("saved").convert())
small = tf.lite.TFLiteConverter.from_saved_model("saved")
small.optimizations = [tf.lite.Optimize.DEFAULT]
rows = np.random.default_rng(1).random((20, 1, 24, 24, 3), np.float32)
small.representative_dataset = lambda: ([r] for r in rows)
open("int8.tflite", "wb").write(small.convert())
call = tf.function(lambda x: net(x)).get_concrete_function(tf.TensorSpec((None, 24, 24, 3), tf.float32, name="picture"))
frozen = convert_variables_to_constants_v2(call).graph.as_graph_def()
open("net.pb", "wb").write(frozen.SerializeToString())
x = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
np.savez("want.npz", x=x, y=net(x).numpy())
class Plain(tf.Module):
    @tf.function
    def __call__(self, x):
        return x
tf.saved_model.save(Plain(), "unsigned")
class Two(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.float32, name="x")])
    def twice(self, x):
        return {"b": x * 2, "a": x + 1}
two = Two()
tf.saved_model.save(two, "two", signatures={"twice": two.twice, "again": two.twice})
class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def __call__(self, x):
        tf.io.write_file("PROOF", "ran")
        return x + 1
evil = Writes()
tf.saved_model.save(evil, "writes", signatures=evil.__call__)
class Calls(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def __call__(self, x):
        return tf.ensure_shape(tf.py_function(lambda v: v + 1, [x], tf.float32), (None, 3))
calls = Calls()
tf.saved_model.save(calls, "calls", signatures=calls.__call__)
from tensorflow.python.trackable.resource import CapturableResource
class AtLoad(CapturableResource):
    def _create_resource(self):
        return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    def _initialize(self):
        tf.io.write_file("PROOF", "ran")
class Loads(tf.Module):
    def __init__(self):
        self.held = AtLoad()
    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def __call__(self, x):
        return x + 1
loads = Loads()
tf.saved_model.save(loads, "loads", signatures=loads.__call__)
import pathlib
pathlib.Path("PROOF").unlink(missing_ok=True)
tf.saved_model.load("loads")
assert pathlib.Path("PROOF").exists()  # loading it alone would run it
pathlib.Path("PROOF").unlink()
lam = keras.Sequential([keras.Input((3,)), L.Lambda(lambda v: v * 2)])
lam.save("lambda.keras"); lam.save("lambda.h5")
"""


@pytest.fixture(scope="module")
def small(tensorflow_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    python(tensorflow_toolchain, folder, SMALL.replace("PROOF", str(folder / "proof")))
    return folder


@pytest.mark.parametrize("name", ["saved", "net.keras", "net.h5", "net.pb", "net.tflite"])
def test_every_way_to_save_gives_what_keras_gives(small: Path, name: str) -> None:
    model = parse(small / name)
    assert [s.name for s in model.inputs] == ["picture"]
    assert model.inputs[0].shape == ("batch", 24, 24, 3)
    assert model.outputs[0].shape == ("batch", 4)
    assert model.notes == (f"exported by tensorflow {TENSORFLOW.version}",)
    with np.load(small / "want.npz") as want:
        (got,) = verify.run(model.proto, {"picture": want["x"]})
        assert np.abs(got - want["y"]).max() < 1e-5


def test_a_quantised_tflite_is_read_as_float(small: Path) -> None:
    model = parse(small / "int8.tflite")
    assert "not compared" in model.notes[1]
    with np.load(small / "want.npz") as want:
        (got,) = verify.run(model.proto, {"picture": want["x"]})
        assert np.abs(got - want["y"]).max() < 0.02  # its weights have 8 bits


def test_signatures_and_open_sizes(small: Path) -> None:
    error = failure(small / "two")
    assert error.code == "model.signature"
    assert "again, twice" in error.cause
    assert failure(small / "two", extra={"tf_signature": "twice"}).code == "usage.dynamic_shape"
    model = parse(small / "two", extra={"tf_signature": "twice"}, input_shapes={"x": (-1, 5, 3)})
    x = np.random.default_rng(0).random((2, 5, 3), np.float32)
    assert [o.name for o in model.outputs] == ["a", "b"]
    a, b = verify.run(model.proto, {"x": x})
    assert np.array_equal(a, x + 1) and np.array_equal(b, x * 2)


def test_a_saved_model_without_a_signature(small: Path) -> None:
    error = failure(small / "unsigned")
    assert error.code == "model.signature"
    assert "without one" in error.cause


def test_code_in_files_is_refused_without_running_it(small: Path) -> None:
    error = failure(small / "writes")
    assert error.code == "unsupported.op"
    assert "WriteFile" in error.summary
    error = failure(small / "loads")
    assert error.code == "unsupported.op" and "WriteFile" in error.summary
    assert not (small / "proof").exists()
    error = failure(small / "calls")
    assert error.code == "unsupported.op" and "PyFunc" in error.summary
    assert failure(small / "lambda.keras").code == "model.pickle"
    assert failure(small / "lambda.h5").code == "model.pickle"


def test_broken_files(small: Path, tmp_path: Path) -> None:
    for name, code in (
        ("net.keras", "model.keras"),
        ("net.h5", "model.keras"),
        ("net.pb", "model.frozen"),
        ("net.tflite", "model.tflite"),
    ):
        path = tmp_path / name
        content = (small / name).read_bytes()
        path.write_bytes(content[: len(content) // 2] if name != "net.tflite" else b"TFL3" + bytes(40))
        assert failure(path).code == code, name
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    assert failure(tmp_path / "saved").code == "model.saved_model"


def test_a_keras_file_that_grows_without_end(tensorflow_toolchain: Environment, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("metadata.json", '{"keras_version": "3.0"}')
        with bomb.open("config.json", "w") as part:
            for _ in range(120):
                part.write(bytes(1_000_000))
    error = failure(tmp_path / "bomb.keras")
    assert error.code == "model.bomb"
    assert "config.json" in error.summary


def test_unknown_names(small: Path) -> None:
    assert failure(small / "net.pb", extra={"tf_outputs": "nope"}).code == "usage.output"
    assert failure(small / "net.keras", input_shapes={"nope": (1, 24, 24, 3)}).code == "usage.input_shape"

"""The TensorFlow frontend for real, on the toolchain ``tensorflow``.

Runs where that toolchain is installed, or with ACCEL_TEST_FRAMEWORKS=1, which installs it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends import plugin
from accel.builtin.frontends.toolchains import TENSORFLOW
from accel.builtin.prepare import verify
from accel.errors import AccelError
from accel.model import Model
from accel.options import ParseOptions
from accel.toolchain.find import find
from accel.toolchain.process import run
from accel.toolchain.spec import Environment
from photos import evaluation_photos
from PIL import Image

WANTED = os.environ.get("ACCEL_TEST_FRAMEWORKS") == "1"
pytestmark = [
    pytest.mark.toolchain("tensorflow"),
    pytest.mark.skipif(not WANTED and find(TENSORFLOW) is None, reason="the toolchain tensorflow is not installed"),
]


@pytest.fixture(scope="module")
def tensorflow_env() -> Environment:
    from accel.toolchain.install import install

    return install(TENSORFLOW)


def python(env: Environment, folder: Path, code: str, *arguments: object) -> None:
    """Run ``code`` on the toolchain's Python in ``folder``."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    argv = [env.python, script, *map(str, arguments)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = run(env, argv, cwd=folder, log=folder / "log", timeout=900, variables=quiet)
    assert done.rc == 0, done.tail(20)


def parse(path: Path, **options: object) -> Model:
    model = plugin.accel_parse(path, ParseOptions(**options))  # type: ignore[arg-type]
    assert model is not None
    return model


def failure(path: Path, **options: object) -> AccelError:
    with pytest.raises(AccelError) as caught:
        parse(path, **options)
    return caught.value


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
lam = keras.Sequential([keras.Input((3,)), L.Lambda(lambda v: v * 2)])
lam.save("lambda.keras"); lam.save("lambda.h5")
"""


@pytest.fixture(scope="module")
def small(tensorflow_env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    python(tensorflow_env, folder, SMALL.replace("PROOF", str(folder / "proof")))
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
    assert not (small / "proof").exists()
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


def test_unknown_names(small: Path) -> None:
    assert failure(small / "net.pb", extra={"tf_outputs": "nope"}).code == "usage.output"
    assert failure(small / "net.keras", input_shapes={"nope": (1, 24, 24, 3)}).code == "usage.input_shape"


NETS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "ResNet50",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "NASNetMobile",
)


@pytest.mark.slow
@pytest.mark.skipif(not WANTED, reason="ACCEL_TEST_FRAMEWORKS=1 runs the parity of all Keras applications")
@pytest.mark.parametrize("name", NETS)
def test_keras_applications_on_real_photos(name: str, tensorflow_env: Environment, tmp_path: Path) -> None:
    pictures = [np.asarray(Image.open(p).convert("RGB").resize((224, 224))) for p, _ in evaluation_photos()[:2]]
    pixels = np.stack(pictures).astype(np.float32)
    own = name.startswith(("MobileNetV3", "EfficientNet"))  # they scale 0..255 themselves
    np.save(tmp_path / "x.npy", pixels if own else pixels / 127.5 - 1)
    code = """
import sys, keras, numpy as np
keras.utils.set_random_seed(0)
net = getattr(keras.applications, sys.argv[1])(weights=None, classifier_activation=None)
x = np.load("x.npy")
for layer in net.layers:
    layer.momentum = 0.0
net(x, training=True)  # statistics of these photos: the signal reaches the end
net.export("saved")
np.save("y.npy", net(x).numpy())
"""
    python(tensorflow_env, tmp_path, code, name)
    model = parse(tmp_path / "saved", input_shapes={"": (-1, 224, 224, 3)})  # MobileNetV3 leaves its sizes open
    want = np.load(tmp_path / "y.npy")
    (got,) = verify.run(model.proto, {model.inputs[0].name: np.load(tmp_path / "x.npy")})
    assert np.abs(want[0] - want[1]).max() > 1e-3 * np.abs(want).max()  # two photos, two answers
    assert np.abs(want - got).max() <= 1e-4 * max(1.0, float(np.abs(want).max()))
    print(f"{name}: max abs {np.abs(want - got).max():.1e} of {np.abs(want).max():.2f}")

"""The frameworks that heavy frontends need, each in an environment of its own."""

from __future__ import annotations

import sys

from accel.toolchain.spec import Environment, Toolchain


def _prove(env: Environment, code: str) -> str:
    """Run ``code`` on the environment's Python; its last line says what works."""
    import tempfile
    from pathlib import Path

    from accel.errors import AccelError
    from accel.toolchain.process import run

    with tempfile.TemporaryDirectory(prefix="accel-prove-") as folder:
        log = Path(folder) / "log"
        done = run(env, [env.python, "-c", code], cwd=Path(folder), log=log, timeout=600)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if done.rc or not lines:
        raise AccelError(
            f"the toolchain {env.toolchain} does not work on this machine",
            code="toolchain.broken",
            cause=lines[-1] if lines else f"exit code {done.rc}",
            hints=["Its packages may be built for another processor or want a GPU's libraries."],
        )
    return lines[-1]


def _prove_torch(env: Environment) -> str:
    return _prove(
        env,
        "import io, torch; m = torch.jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)); b = io.BytesIO(); "
        "torch.onnx.export(m, (torch.zeros(1, 1, 2, 2),), b, dynamo=False); assert len(b.getvalue()) > 100; "
        "print('torch', torch.__version__, 'exports ONNX')",
    )


TORCH = Toolchain(
    name="torch",
    version="2.13.0",
    summary="PyTorch (CPU) and its ONNX exporters, to read .pt, .pt2 and state dicts",
    python="3.11",
    requirements=(
        "torch==2.13.0",
        "filelock==4.2.11",
        "fsspec==2026.9.0",
        "jinja2==3.1.6",
        "markupsafe==3.0.4",
        "ml-dtypes==0.6.0",
        "mpmath==1.3.0",
        "networkx==3.6.1",
        "numpy==2.4.6",
        "onnx==1.23.2",
        "onnx-ir==1.1.0",
        "onnxscript==0.7.2",
        "packaging==26.3",
        "protobuf==7.36.2",
        "setuptools==84.2.1",
        "sympy==1.14.0",
        "typing-extensions==4.16.0",
    ),
    download_bytes=250_000_000,
    installed_bytes=1_100_000_000,
    # PyPI's wheel for Linux wants gigabytes of CUDA libraries; the CPU build lies on PyTorch's own index, and on
    # mirrors of it.
    installer_variables={"UV_TORCH_BACKEND": "cpu"},
    elsewhere={"torch==2.13.0": "torch==2.13.0+cpu"} if sys.platform == "linux" else {},
    probe=_prove_torch,
)


def _prove_tensorflow(env: Environment) -> str:
    return _prove(
        env,
        "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; import tensorflow as tf, tf2onnx; "
        "f = tf.function(lambda x: tf.nn.relu(x), input_signature=[tf.TensorSpec((None, 2), tf.float32)]); "
        "p, _ = tf2onnx.convert.from_function(f, input_signature=f.input_signature); assert p.graph.node; "
        "print('tensorflow', tf.__version__, 'exports ONNX')",
    )


TENSORFLOW = Toolchain(
    name="tensorflow",
    version="2.19.1",
    summary="TensorFlow (CPU) and tf2onnx, to read SavedModel, Keras, frozen .pb and .tflite",
    python="3.11",
    requirements=(
        "absl-py==2.5.1",
        "astunparse==1.6.3",
        "certifi==2026.10.18",
        "charset-normalizer==3.5.2",
        "flatbuffers==25.12.19",
        "gast==0.7.0",
        "google-pasta==0.2.0",
        "grpcio==1.85.1",
        "h5py==3.16.0",
        "idna==3.20",
        "keras==3.15.1",
        "markdown-it-py==4.3.0",
        "mdurl==0.1.2",
        "ml-dtypes==0.6.0",
        "namex==0.1.0",
        "numpy==2.1.3",
        "onnx==1.22.0",
        "opt-einsum==3.4.0",
        "optree==0.20.0",
        "packaging==26.3",
        "protobuf==5.29.6",
        "pygments==2.21.0",
        "requests==2.34.2",
        "rich==15.0.0",
        "setuptools==84.2.1",
        "six==1.17.0",
        "tensorflow-cpu==2.19.1",
        "termcolor==3.3.0",
        "tf2onnx==1.17.0",
        "typing-extensions==4.16.0",
        "urllib3==2.8.0",
        "wheel==0.48.0",
        "wrapt==2.5.2",
    ),
    download_bytes=310_000_000,
    installed_bytes=1_400_000_000,
    probe=_prove_tensorflow,
)

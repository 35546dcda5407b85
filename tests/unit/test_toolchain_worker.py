"""Workers: frames, errors, deaths."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from accel.errors import AccelError
from accel.toolchain.spec import Environment
from accel.toolchain.worker import Worker

SCRIPT = """
import os, sys
import numpy as np
from accel_worker import serve

def double(params, arrays):
    print("noise on stdout")
    os.write(1, b"noise from C\\n")
    return {"seen": sorted(arrays), **params}, {k: v * 2 for k, v in arrays.items()}

def fail(params, arrays):
    raise ValueError("no such layer")

def die(params, arrays):
    sys.stderr.write("assertion failed: x > 0\\n")
    sys.stderr.flush()
    os.abort()

def sleep(params, arrays):
    import time
    time.sleep(60)

def names(params, arrays):
    return {"path": sys.path, "argv": sys.argv}, {}

serve({"double": double, "fail": fail, "die": die, "sleep": sleep, "names": names})
"""


@pytest.fixture
def worker(tmp_path: Path):
    script = tmp_path / "vendor_side.py"
    script.write_text(SCRIPT)
    env = Environment("fake", "1", tmp_path, Path(sys.executable))
    with Worker(env, script, cwd=tmp_path, log=tmp_path / "worker.log", arguments=["--x"]) as found:
        yield found


def test_arrays_cross_with_dtype_and_shape(worker: Worker) -> None:
    arrays = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "h": np.ones((1, 2), np.float16),
        "empty": np.zeros((0, 4), np.int8),
        "scalar": np.float64(3.0).reshape(()),
        "big_endian": np.arange(3, dtype=">i4"),
        "strided": np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::2],
    }
    message, results = worker.call("double", {"a": [1, None]}, arrays)
    assert message == {"seen": sorted(arrays), "a": [1, None]}
    for name, array in arrays.items():
        assert results[name].shape == array.shape
        np.testing.assert_array_equal(results[name], array * 2)
    assert worker.call("double", {}, {})[0] == {"seen": []}
    log = worker.log.read_text()
    assert "noise on stdout" in log and "noise from C" in log


def test_a_failing_function_leaves_the_worker_usable(worker: Worker) -> None:
    with pytest.raises(AccelError) as caught:
        worker.call("fail")
    assert caught.value.code == "failed.worker"
    assert caught.value.cause == "ValueError: no such layer"
    assert worker.alive
    with pytest.raises(AccelError, match="missing failed"):
        worker.call("missing")


def test_a_crash_is_one_error_with_the_signal_and_the_last_words(worker: Worker) -> None:
    with pytest.raises(AccelError) as caught:
        worker.call("die")
    assert "SIGABRT" in caught.value.summary
    assert "assertion failed: x > 0" in caught.value.cause
    with pytest.raises(AccelError, match="died"):
        worker.call("double")


def test_time_limit_kills(worker: Worker) -> None:
    with pytest.raises(AccelError) as caught:
        worker.call("sleep", timeout=0.3)
    assert caught.value.code == "failed.timeout"
    assert not worker.alive


def test_our_modules_do_not_shadow_the_vendors(worker: Worker) -> None:
    message, _ = worker.call("names")
    assert not any(p.endswith("accel/toolchain") for p in message["path"])
    assert message["argv"][1:] == ["--x"]
    worker.close()
    worker.close()


def test_objects_are_refused(worker: Worker) -> None:
    with pytest.raises(TypeError):
        worker.call("double", {}, {"o": np.array([object()])})


def test_the_vendor_side_is_valid_python_3_7() -> None:
    import ast

    import accel.toolchain.accel_worker as module

    ast.parse(Path(module.__file__ or "").read_text(), feature_version=(3, 7))

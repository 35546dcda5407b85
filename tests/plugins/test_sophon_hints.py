"""The compiler's failures end as one error each: code, node, hint."""

from __future__ import annotations

from pathlib import Path

import pytest
from accel.toolchain.process import Completed
from accel_sophon.hints import explain

CASES = [
    ("RuntimeError: Op not support:{'MyCustomOp'}", 1, "unsupported.op", "MyCustomOp", ""),
    ("can't open calibration table file!", 1, "failed.compiler", "table", ""),
    (
        "model_deploy.py: error: argument --chip: invalid choice: 'bm9' (choose from 'bm1688')",
        2,
        "toolchain.",
        "bm9",
        "",
    ),
    ("tpuc-opt: /lib/libc.so.6: version `GLIBC_2.36' not found", 1, "toolchain.broken", "libraries", ""),
    ("ModuleNotFoundError: No module named 'flatbuffers'", 1, "toolchain.broken", "flatbuffers", ""),
    (
        "6 compared\n4 passed\n2 failed\nnpz compare FAILED.",
        255,
        "accuracy.compare",
        "float",
        "",
    ),
    ('loc("relu_3"): error: failed to legalize operation', 1, "failed.compiler", "legalize", "relu_3"),
    ("OSError: [Errno 28] No space left on device", 1, "failed.disk", "disk", ""),
    (
        '%1 = "top.Scale"(%0) loc("norm_scale")\ncan\'t get scale and zeropoint\nUNREACHABLE executed!\n'
        "PLEASE submit a bug report to\nRuntimeError: [!Error]: tpuc-opt net.mlir --x",
        1,
        "calibration.missing",
        "table",
        "norm_scale",
    ),
    (
        "UNREACHABLE executed at Module.cpp:1!\nPLEASE submit a bug report to\n"
        '    raise RuntimeError("[!Error]: {}".format(cmd_str))\nRuntimeError: [!Error]: tpuc-opt net.mlir --x',
        1,
        "failed.compiler",
        "crashed: UNREACHABLE executed at Module.cpp:1!",
        "",
    ),
    ("RuntimeError: something nobody has seen", 1, "failed.compiler", "something nobody has seen", ""),
    ("", -6, "failed.compiler", "signal 6", ""),
    ("", 134, "failed.compiler", "exit code 134", ""),
]


@pytest.mark.parametrize(("text", "rc", "code", "says", "node"), CASES)
def test_failure(tmp_path: Path, text: str, rc: int, code: str, says: str, node: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"$ model_transform.py ok\nRuntimeError: of an earlier command\n$ model_deploy.py\n{text}\n")
    error = explain(Completed(rc, log, 1.0, 1.0, 1), "compiling for bm1684")
    assert error.code.startswith(code)
    assert says in error.summary and error.summary.startswith("compiling for bm1684: ")
    assert error.node == node
    assert error.log == log and error.hints
    assert "earlier command" not in error.cause

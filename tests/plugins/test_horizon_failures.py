"""What Horizon's tools say, as one clear error."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from accel.errors import AccelError, explain
from accel.toolchain.process import Completed
from accel_horizon.failures import HINTS, failure, message


def completed(tmp_path: Path, rc: int, text: str) -> Completed:
    log = tmp_path / "build.log"
    log.write_text(text, encoding="utf-8")
    return Completed(rc, log, 1.0, 1.0, 1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "cache"))


def test_marked_message_without_colours() -> None:
    log = (
        "$ hb_mapper makertbin\nINFO fine\n"
        "\x1b[31mERROR *** ERROR-OCCUR-DURING {hbdk.hbdk-cc} ***, error message: layer conv_7: "
        "kernel too large\x1b[0m\n"
    )
    assert message(log) == "hbdk.hbdk-cc: layer conv_7: kernel too large"


def test_last_exception_when_nothing_is_marked() -> None:
    log = "Traceback (most recent call last):\n  File x, line 1\nValueError: model opset_version 12 is bad\n"
    assert message(log) == "ValueError: model opset_version 12 is bad"


def test_messages_of_an_earlier_run_are_not_taken() -> None:
    assert message("$ one\nValueError: old\n$ two\nRuntimeError: new\n") == "RuntimeError: new"


@pytest.mark.parametrize("rc", [-signal.SIGFPE, 136])
def test_crash_without_a_word(tmp_path: Path, rc: int) -> None:
    error = failure(completed(tmp_path, rc, "$ python build_model.py\naccel-stage: quantize\n"), None, stage="build")
    assert error.code == "failed.compiler-crash"
    assert "SIGFPE" in error.summary
    assert "accel-stage: quantize" in error.cause


def test_killed_for_its_memory(tmp_path: Path) -> None:
    assert failure(completed(tmp_path, -signal.SIGKILL, ""), None, stage="build").code == "failed.memory"


def test_log_outlives_the_workspace(tmp_path: Path) -> None:
    done = completed(tmp_path, 1, "ValueError: no\n")
    error = failure(done, None, stage="build")
    done.log.unlink()
    assert error.log is not None and error.log.read_text() == "ValueError: no\n"


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (
            "ValueError: The opset version of the model is 12, the maximum supported version is 11.",
            "unsupported.opset",
            "is 12",
        ),
        (
            "The ir version of the model is 10, which is greater than the maximum",
            "unsupported.ir",
            "IR 7 to 9, this is 10",
        ),
        ("The onnx model is invalid (shape_inference or model_check failed).", "unsupported.operator", "operator"),
        ("Fail: No Op registered for FancyOp with domain_version of 11", "unsupported.operator", "no operator FancyOp"),
        ("unsupported model: BAYES not support execute one model on 2 core", "unsupported.cores", "one core"),
        (
            "Unsupported datatype settings for march bernoulli2: int16",
            "unsupported.precision",
            "bernoulli2 has no int16",
        ),
        ("unsupported model: some layer", "unsupported.model", "some layer"),
        ("find NaN threshold in conv1_HzCalibration, Please check", "failed.nan", "NaN"),
        ("ValueError: accel: no calibration range for tensor x_1", "calibration.incomplete", "no range"),
        ("OSError: [Errno 28] No space left on device", "failed.disk-full", "disk is full"),
        ("can not find hbdk library", "toolchain.broken", "not found"),
    ],
)
def test_known_messages_get_a_cause_and_a_next_step(said: str, code: str, words: str) -> None:
    error = AccelError("Horizon's compiler refused m", code="failed.compiler", cause=said)
    explain(error, HINTS)
    assert error.code == code
    assert words in error.cause
    assert error.hints
    if "NaN" in said:
        assert error.node == "conv1"

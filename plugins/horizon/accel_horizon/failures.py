"""What Horizon's tools say when they fail, as one clear error."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from accel.errors import AccelError, ErrorHint

if TYPE_CHECKING:
    from accel.model import Model
    from accel.toolchain.process import Completed

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_OCCURRED = re.compile(r"\*\*\* ERROR-OCCUR-DURING \{(?P<where>[^}]*)\} \*\*\*,? *error message: *(?P<what>.*)", re.S)
_PYTHON = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Fail)|Fail|InvalidGraph|AssertionError): ")
CRASHES = (signal.SIGFPE, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)

# Patterns as the tools of the pinned toolchain write them (tests/toolchains/test_horizon_failures.py provokes them).
HINTS = (
    ErrorHint(
        r"opset version of the model is (?P<opset>\d+), the maximum supported",
        "Horizon's compiler reads opset 11 at most, this is {opset}",
        "Give the ONNX file to accel itself: it lowers models.",
        "unsupported.opset",
    ),
    ErrorHint(
        r"ir version of the model is (?P<ir>\d+), which is greater",
        "Horizon's compiler reads ONNX IR 7 to 9, this is {ir}",
        "Give the ONNX file to accel itself: it lowers models.",
        "unsupported.ir",
    ),
    ErrorHint(
        r"onnx model is invalid \(shape_inference or model_check failed\)|unsupported domain detected in model",
        "the compiler does not know an operator of the model, or its shapes",
        "`accel check` names the nodes; end the network before them: --output-names TENSOR.",
        "unsupported.operator",
    ),
    ErrorHint(
        r"No Op registered for (?P<op>\w+)|[Uu]nsupported op(?:erator)?(?: type)?:? *'?(?P<kind>\w+)",
        "the compiler has no operator {op}{kind}",
        "End the network before it (--output-names), or run the node on the CPU: --set run_on_cpu=NODE.",
        "unsupported.operator",
    ),
    ErrorHint(
        r"not support execute one model on 2 core",
        "a model for this chip is built for one core",
        "Leave out --cores, and run two copies of the model side by side.",
        "unsupported.cores",
    ),
    ErrorHint(
        r"Unsupported datatype settings for march (?P<march>[\w/]+): (?P<bits>\w+)",
        "{march} has no {bits}",
        "Build int8, or int16 for j5 or x5.",
        "unsupported.precision",
    ),
    ErrorHint(
        r"Unsupported march: (?P<march>\S+)",
        "this toolchain compiles for bernoulli2, bayes and bayes-e, not {march}",
        "Choose the target x3, j3, j5 or x5.",
        "unsupported.target",
    ),
    ErrorHint(
        r"find NaN threshold in (?P<node>\S+?)(?:_HzCalibration)?,",
        "a threshold of {node} is NaN",
        "Look for NaN in the weights and in the calibration data.",
        "failed.nan",
    ),
    ErrorHint(
        r"accel: no calibration range for tensor (?P<node>\S+)",
        "the calibration holds no range for a tensor that the compiler quantises",
        "Calibrate the prepared model again, or let the vendor calibrate: --calibrator vendor.",
        "calibration.incomplete",
    ),
    ErrorHint(
        r"unsupported model: (?P<why>[^\n]*)",
        "",
        "`accel check` shows each node's place; move the one at fault to the CPU: --set run_on_cpu=NODE.",
        "unsupported.model",
    ),
    ErrorHint(
        r"there is no enough memory for hbm infer|std::bad_alloc|MemoryError|Cannot allocate memory",
        "the compiler or simulator ran out of memory",
        "Use a smaller batch or input, or a machine with more memory.",
        "failed.memory",
    ),
    ErrorHint(r"No space left on device", "the disk is full", "Free some space and run it again.", "failed.disk-full"),
    ErrorHint(
        r"can ?not find hbdk library|No such file or directory: 'hbdk-",
        "the toolchain's own programs are not found",
        "Install it again: accel toolchain install horizon --again",
        "toolchain.broken",
    ),
    ErrorHint(
        r"torch\.(?P<name>[\w.]+) was used, but this toolchain holds only a stand-in",
        "a part of the compiler that computes with torch was reached ({name})",
        "Give the compiler ONNX; export torch models first.",
    ),
)


def clean(text: str) -> str:
    """Without colours."""
    return _ANSI.sub("", text)


def message(log: str) -> str:
    """The compiler's own words for what went wrong: its marked message, else the last exception or ERROR line."""
    text: str = clean(log)
    # After the last command line: a log may hold several runs.
    text = text[text.rfind("\n$ ") + 1 :]
    marked = _OCCURRED.findall(text)
    if marked:
        where, what = marked[-1]
        said = [x.strip() for x in what.splitlines() if x.strip() and not re.search(r"\]\s*\d+%", x)]
        return f"{where}: {' '.join(said[:6])}"[:800]
    lines: list[str] = [line.strip() for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if _PYTHON.match(line):
            return line[:800]
    for line in reversed(lines):
        if re.search(r"\bERROR\b|\berror:", line):
            return line[:800]
    return " | ".join(lines[-3:])[:800]


def crashed(done: Completed) -> signal.Signals | None:
    """The signal that ended a tool: its own, or (by a shell's convention) 128 and the signal."""
    number = -done.rc if done.rc < 0 else done.rc - 128
    try:
        found = signal.Signals(number)
    except ValueError:
        return None
    return found if found in CRASHES else None


def kept(log: Path) -> Path:
    """A copy of ``log`` that outlives the build's working directory (the last 20 failures are kept)."""
    import platformdirs

    folder = Path(os.environ.get("ACCEL_CACHE_DIR") or platformdirs.user_cache_dir("accel")) / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("horizon-*.log"), key=lambda p: p.stat().st_mtime)[:-19]:
            old.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix="horizon-", suffix=".log", dir=folder)
        os.close(handle)
        shutil.copyfile(log, name)
        return Path(name)
    except OSError:
        return log


def failure(done: Completed, model: Model | None, *, stage: str) -> AccelError:
    """The error for a run of the compiler that ended badly; its log is kept."""
    text = done.text()
    log = kept(done.log)
    name = f" {model.name}" if model else ""
    killed = crashed(done)
    if killed is not None:
        return AccelError(
            f"Horizon's compiler crashed on{name or ' the model'} ({killed.name})",
            code="failed.compiler-crash",
            stage=stage,
            cause="it wrote no message; " + (last_words(text) or "it had not begun"),
            log=log,
        )
    if done.rc in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return AccelError(
            f"Horizon's compiler was killed while it built{name}",
            code="failed.memory",
            stage=stage,
            cause="the system ends the process that uses most memory when there is none left",
            hints=["Use a machine with more memory, or a smaller batch."],
            log=log,
        )
    return AccelError(
        f"Horizon's compiler refused{name}" if model else "Horizon's tool failed",
        code="failed.compiler",
        stage=stage,
        cause=message(text),
        log=log,
    )


def last_words(log: str) -> str:
    """The last line before a crash that is no progress bar."""
    lines = [x.strip() for x in clean(log).splitlines() if x.strip() and not re.search(r"\]\s*\d+%", x)]
    return f"its last line was: {lines[-1][:200]}" if lines else ""

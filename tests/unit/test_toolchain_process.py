"""Running tools: logs, environment, time limits, what is left alive."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from accel.errors import AccelError
from accel.toolchain import process
from accel.toolchain.spec import Environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    (tmp_path / "bin").mkdir()
    return Environment("fake", "1", tmp_path, Path(sys.executable), {"VENDOR_HOME": "/x"}, (tmp_path / "bin",))


def python(env: Environment, code: str, **kwargs: object) -> process.Completed:
    return process.run(env, [sys.executable, "-c", code], cwd=env.root, log=env.root / "log.txt", **kwargs)  # type: ignore[arg-type]


def ends(pid: int) -> bool:
    """True when the process is gone (or a zombie) within a few seconds: a killed one takes a moment."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_log_lines_and_exit_code(env: Environment) -> None:
    lines: list[str] = []
    code = "import sys; print('out'); sys.stderr.write('10%\\r20%\\rlast'); sys.exit(7)"
    done = python(env, code, on_line=lines.append)
    assert done.rc == 7
    assert set(lines) == {"out", "10%", "20%", "last"}
    assert done.text().startswith("$ ") and "out" in done.text()
    assert done.seconds > 0 and done.peak_bytes > 1_000_000


def test_a_signal_is_a_negative_exit_code(env: Environment) -> None:
    assert python(env, "import os; os.abort()").rc == -6


def test_the_drivers_environment_does_not_leak(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/leaked-from-outside")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/leaked-from-outside")
    done = python(env, "import os; print(sorted(os.environ.items()))", variables={"EXTRA": "1"})
    text = done.text()
    assert "/leaked-from-outside" not in text
    assert "('VENDOR_HOME', '/x')" in text and "('EXTRA', '1')" in text
    assert f"('PATH', '{env.bin[0]}:" in text


def test_cpu_seconds_include_children(env: Environment) -> None:
    burn = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    done = python(env, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])")
    assert done.cpu_seconds >= 0.4


def test_time_limit_kills_the_whole_family(env: Environment) -> None:
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    pids: list[int] = []
    with pytest.raises(AccelError) as caught:
        python(env, code, timeout=1.0, on_line=lambda line: pids.append(int(line)), stage="build")
    assert caught.value.code == "failed.timeout" and caught.value.stage == "build"
    assert pids and ends(pids[0])


def test_a_stray_child_neither_blocks_nor_survives(env: Environment) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True)"
    pids: list[int] = []
    started = time.monotonic()
    assert python(env, code, on_line=lambda line: pids.append(int(line))).rc == 0
    assert time.monotonic() - started < 30
    assert ends(pids[0])


def test_kill_all_ends_tools_of_other_threads(env: Environment) -> None:
    results: list[process.Completed] = []
    started = threading.Event()
    thread = threading.Thread(
        target=lambda: results.append(
            python(env, "import time; print(1, flush=True); time.sleep(60)", on_line=lambda _: started.set())
        )
    )
    thread.start()
    assert started.wait(20)
    process.kill_all()
    thread.join(20)
    assert results[0].rc == -9


def test_a_program_that_is_not_there(env: Environment) -> None:
    with pytest.raises(AccelError) as caught:
        process.run(env, ["/no/such/tool"], cwd=env.root, log=env.root / "log.txt")
    assert caught.value.code == "toolchain.broken"


def test_an_error_in_on_line_kills_the_tool(env: Environment) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        python(env, "import time; print(1, flush=True); time.sleep(60)", on_line=stop)
    assert not process._live

"""Files appear whole or not at all, and what a killed process left is swept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accel.errors import AccelError
from accel.files import atomic_file, publish_directory, workspace_beside


def test_file_appears_by_rename(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "out" / "x") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "out" / "x").exists()
    assert (tmp_path / "out" / "x").read_text() == "new"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "x").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_directory_is_swapped(tmp_path: Path) -> None:
    for round_ in ("first", "second"):
        with workspace_beside(tmp_path / "a") as work:
            (work / "made").mkdir()
            (work / "made" / round_).touch()
            publish_directory(work / "made", tmp_path / "a")
        assert [p.name for p in (tmp_path / "a").iterdir()] == [round_]
    assert len(list(tmp_path.iterdir())) == 1


def test_leftovers_of_a_killed_process_are_swept_and_live_ones_kept(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib, accel.files as f\n"
        "with f.workspace_beside(pathlib.Path(sys.argv[1])) as w:\n"
        "    (w / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with workspace_beside(tmp_path / "a"):
            assert len(list(tmp_path.iterdir())) == 2  # ours and the living one
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with workspace_beside(tmp_path / "a"):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(AccelError, match="cannot make the folder"), atomic_file(tmp_path / "x" / "y" / "z"):
        pass

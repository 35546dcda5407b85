"""The result cache: hits, damage, bounds, and several processes at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accel.cache import Cache, NoCache, code_state, key_of
from accel.options import BuildOptions


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit=1 << 20)


def folder(path: Path, size: int = 10) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "f").write_bytes(b"x" * size)
    return path


def test_hit_and_miss(cache: Cache, tmp_path: Path) -> None:
    assert cache.get("build", "k") is None
    cache.put("build", "k", folder(tmp_path / "made"), "net for chip")
    found = cache.get("build", "k")
    assert found is not None and (found / "sub" / "f").read_bytes() == b"x" * 10
    assert [(e.kind, e.key, e.bytes, e.label) for e in cache.entries()] == [("build", "k", 10, "net for chip")]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "entry", "no-entry"])
def test_damaged_entry_counts_as_absent_and_goes(cache: Cache, tmp_path: Path, damage: str) -> None:
    cache.put("build", "k", folder(tmp_path / "made"))
    path = cache.root / "build" / "k"
    file = path / "sub" / "f"
    if damage == "flip":
        file.write_bytes(b"y" * 10)
    elif damage == "truncate":
        file.write_bytes(b"")
    elif damage == "remove":
        file.unlink()
    elif damage == "entry":
        (path / "entry.json").write_text("[]")
    else:
        (path / "entry.json").unlink()
    assert cache.get("build", "k") is None
    assert not path.exists()
    cache.put("build", "k", tmp_path / "made")
    assert cache.get("build", "k") is not None


def test_least_recently_used_goes_first(cache: Cache, tmp_path: Path) -> None:
    cache.limit = 250
    for at, key in enumerate(("a", "b")):
        cache.put("build", key, folder(tmp_path / key, 100))
        os.utime(cache.root / "build" / key, (at, at))
    assert cache.get("build", "a") is not None  # now b is the oldest
    cache.put("build", "c", folder(tmp_path / "c", 100))
    assert {e.key for e in cache.entries()} == {"a", "c"}
    assert cache.clean() == 200 and cache.entries() == []


def test_unwritable_cache_only_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    cache.put("build", "k", folder(tmp_path / "made"))
    with cache.lock("k"):
        assert cache.get("build", "k") is None


def test_leftovers_of_the_dead_are_swept(cache: Cache, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    folder(cache.root / f".new-{child.pid}-00")
    cache.put("build", "k", folder(tmp_path / "made"))
    assert not list(cache.root.glob(".new-*"))


def test_second_process_waits_for_the_first(cache: Cache, tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from accel.cache import Cache\n"
        "c = Cache(pathlib.Path(sys.argv[1]))\n"
        "with c.lock('k'):\n"
        "    print('held', flush=True); time.sleep(0.5); c.put('build', 'k', pathlib.Path(sys.argv[2]))"
    )
    made = folder(tmp_path / "made")
    child = subprocess.Popen([sys.executable, "-c", code, str(cache.root), str(made)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    with cache.lock("k"):
        assert cache.get("build", "k") is not None
    assert child.wait() == 0


def test_no_cache(tmp_path: Path) -> None:
    cache = NoCache(tmp_path / "cache")
    cache.put("build", "k", folder(tmp_path / "made"))
    assert cache.get("build", "k") is None and not cache.root.exists()


def test_key_does_not_depend_on_the_order_of_sets_and_mappings() -> None:
    one = BuildOptions(int_io=frozenset(["input", "output"]), set={"a": "1", "b": "2"})
    two = BuildOptions(int_io=frozenset(["output", "input"]), set={"b": "2", "a": "1"})
    assert key_of(one) == key_of(two) != key_of(BuildOptions(opt=2))


def test_edited_code_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_state("some_plugin")
    code_state.cache_clear()
    assert code_state("some_plugin") == before
    (package / "__init__.py").write_text("x = 1")
    os.utime(package / "__init__.py", (time.time() + 5,) * 2)
    code_state.cache_clear()
    assert code_state("some_plugin") != before

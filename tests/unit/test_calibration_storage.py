"""A calibration comes back bit for bit, or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from accel.calibration import Calibration, storage
from accel.calibration.histogram import Accumulator
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st


def some(seed: int = 0, names: tuple[str, ...] = ("a", "b/ü:0", "c")) -> Calibration:
    rng = np.random.default_rng(seed)
    tensors = {}
    for at, name in enumerate(names):
        found = Accumulator(name)
        values = rng.normal(0, 10.0**at, 100).astype(np.float32)
        found.add_range(float(values.min()), float(values.max()), 100, at)
        found.fill(values)
        if at:
            found.add_channels(values[:4], values[:4] + 1)
        tensors[name] = found.statistics()
    return Calibration("0" * 64, "f" * 64, 3, tensors, 16384)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.calib"
    some().save(path)
    return path


def refused(path: Path, code: str = "calibration.unreadable") -> AccelError:
    with pytest.raises(AccelError) as caught:
        Calibration.load(path)
    assert caught.value.code == code
    assert str(path) in caught.value.summary
    assert caught.value.cause
    return caught.value


def test_round_trip(saved: Path) -> None:
    found = Calibration.load(saved)
    assert storage.pack(found) == storage.pack(some())
    assert found.digest == some().digest != some(1).digest
    assert list(found.tensors) == ["a", "b/ü:0", "c"]
    assert found.ranges("kl") == some().ranges("kl")
    assert [p.name for p in saved.parent.iterdir()] == ["net.calib"]


def test_truncated_anywhere(saved: Path) -> None:
    content = saved.read_bytes()
    for size in [*range(0, 80, 7), len(content) // 2, len(content) - 1]:
        saved.write_bytes(content[:size])
        refused(saved)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("c") / "x.calib"
    content = bytearray(storage.pack(some())[0])
    content[at % len(content)] ^= flip
    path.write_bytes(content)
    with pytest.raises(AccelError) as caught:
        Calibration.load(path)
    assert caught.value.code in ("calibration.unreadable", "calibration.newer")


def test_foreign_missing_newer(saved: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none.calib")
    refused(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(500))
    assert "no calibration" in refused(tmp_path / "photo.jpg").cause
    content = bytearray(saved.read_bytes())
    content[8] = 2
    saved.write_bytes(content)
    assert "version 2" in refused(saved, "calibration.newer").cause


@pytest.mark.parametrize("change", [{"positive": 10**15}, {"negative": -1}, {"positive": 0}, {"name": 3}])
def test_right_digest_wrong_header(tmp_path: Path, change: dict[str, object]) -> None:
    import hashlib

    content = storage.pack(some())[0]
    _, version, length, _ = storage._PREFIX.unpack_from(content)
    body = content[storage._PREFIX.size :]
    header = msgspec.json.decode(body[:length])
    header["tensors"][0].update(change)
    text = msgspec.json.encode(header)
    body = text + body[length:]
    path = tmp_path / "x.calib"
    path.write_bytes(storage._PREFIX.pack(storage.MAGIC, version, len(text), hashlib.sha256(body).digest()) + body)
    refused(path)


def test_unwritable_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AccelError) as caught:
        some().save(tmp_path / "no" / "such" / "x.calib")
    assert caught.value.code == "calibration.unwritable"


def test_a_failed_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    before = saved.read_bytes()
    with pytest.raises(AccelError, match="cannot be written"):
        some(1).save(saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["net.calib"]

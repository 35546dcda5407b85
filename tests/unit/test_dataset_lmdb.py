"""Caffe's LMDB data: the Datum message, reading, writing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.datum import Datum, parse, picture_of, raw_datum, serialize
from accel.builtin.datasets.packing import PackOptions, pack
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

lmdb = pytest.importorskip("lmdb")
INPUTS = (TensorSpec("x", "float32", (1, 3, 6, 8)),)
STRETCH = Preprocessing(resize="stretch")


@settings(deadline=None)
@given(
    st.builds(
        Datum,
        channels=st.integers(0, 5),
        height=st.integers(0, 1 << 20),
        width=st.integers(0, 1 << 31),
        data=st.binary(max_size=300),
        label=st.integers(-(2**31), 2**31 - 1),
        encoded=st.booleans(),
    )
)
def test_datum_round_trip(datum: Datum) -> None:
    assert parse(serialize(datum)) == datum


def test_datum_bytes_are_protobufs() -> None:
    # What protobuf itself writes for channels=3, height=1, width=2, data=b"abcdef", label=300.
    message = bytes.fromhex("0803100118022206") + b"abcdef" + bytes.fromhex("28ac02")
    datum = Datum(3, 1, 2, b"abcdef", 300)
    assert serialize(datum) == message
    assert parse(message) == datum
    # Unknown fields are passed over; floats may be packed or not.
    more = message + bytes.fromhex("420161") + bytes.fromhex("350000803f") + bytes.fromhex("320400000040")
    assert parse(more).floats == (1.0, 2.0)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_datum_or_an_error(message: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):
        picture_of(parse(message))


def test_truncated_datum() -> None:
    message = serialize(raw_datum(Image.new("RGB", (4, 4)), 1))
    for cut in (1, 5, 20, len(message) - 3):
        with pytest.raises(ValueError, match=r"truncated|bytes"):
            picture_of(parse(message[:cut]))


def test_raw_pixels_are_bgr_planes() -> None:
    datum = raw_datum(Image.new("RGB", (2, 1), (10, 20, 30)), 0)
    assert datum.data == bytes([30, 30, 20, 20, 10, 10])
    assert picture_of(datum).getpixel((0, 0)) == (10, 20, 30)
    assert picture_of(datum, "rgb").getpixel((0, 0)) == (30, 20, 10)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for at in range(4):
            pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{at}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("encoded", ["", "png"])
def test_what_is_packed_is_read(tmp_path: Path, photos: Path, encoded: str) -> None:
    written, skipped = pack(photos, tmp_path / "db", PackOptions(encoded=encoded))
    assert (written, skipped) == (8, {})
    direct = list(open_dataset(photos, INPUTS, STRETCH))
    packed = list(open_dataset(tmp_path / "db", INPUTS, STRETCH))
    assert [s.name for s in packed] == [f"{at:08d}_{s.name}" for at, s in enumerate(direct)]
    assert [s.label for s in packed] == [s.label for s in direct]
    for one, other in zip(direct, packed, strict=True):
        np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"])
    assert packed[0].meta["picture"]().size == (16, 12)


def test_resized_gray_jpg_and_shuffled(tmp_path: Path, photos: Path) -> None:
    options = PackOptions(size=(6, 8), encoded="jpg", gray=True, shuffle=3)
    pack(photos, tmp_path / "one", options)
    pack(photos, tmp_path / "two", options)
    names = [[s.name for s in open_dataset(tmp_path / n, INPUTS, STRETCH)] for n in ("one", "two")]
    assert names[0] == names[1]
    order = [n.partition("_")[2] for n in names[0]]
    assert order != sorted(order)
    assert {o.rpartition("/")[0] for o in order} == {"cat", "dog"}
    sample = next(iter(open_dataset(tmp_path / "one", INPUTS, STRETCH)))
    assert sample.meta["original_size"] == (6, 8)
    assert (sample.inputs["x"][0, 0] == sample.inputs["x"][0, 2]).all()


def test_a_bad_picture_leaves_nothing(tmp_path: Path, photos: Path) -> None:
    (photos / "cat" / "1.png").write_bytes(b"broken")
    with pytest.raises(AccelError, match=r"cat/1\.png"):
        pack(photos, tmp_path / "db", PackOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]
    written, skipped = pack(photos, tmp_path / "db", PackOptions(skip_bad=True))
    assert written == 7
    assert [*skipped] == ["cat/1.png"]
    with pytest.raises(AccelError, match="exists already"):
        pack(photos, tmp_path / "db", PackOptions())


def test_folders_that_are_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AccelError, match=r"lmdb|data set") as caught:
        open_dataset(f"lmdb:{tmp_path / 'empty'}", INPUTS, STRETCH)
    assert "data.mdb" in caught.value.cause
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "data.mdb").write_bytes(b"no lmdb" * 100)
    with pytest.raises(AccelError) as caught:
        open_dataset(tmp_path / "foreign", INPUTS, STRETCH)
    assert caught.value.code == "data.unreadable"


def test_a_bad_entry_is_named(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path / "db"))
    with environment.begin(write=True) as transaction:
        transaction.put(b"a", serialize(raw_datum(Image.new("RGB", (4, 4)), 5)))
        transaction.put(b"b", serialize(Datum(3, 100, 100, b"short", 1)))
        transaction.put(b"\xff", serialize(Datum(data=b"no jpeg", encoded=True)))
    environment.close()
    data = open_dataset(tmp_path / "db", INPUTS, STRETCH, {"skip_bad": "1"})
    assert [(s.name, s.label) for s in data] == [("a", 5)]
    assert "5 bytes" in data.skipped["b"]
    assert "\\xff" in data.skipped


def test_the_command(tmp_path: Path, photos: Path) -> None:
    def accel(*words: str) -> subprocess.CompletedProcess[str]:
        start = "from accel.cli.main import main; main()"
        return subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)

    done = accel("data", "pack", str(photos), str(tmp_path / "db"), "--size", "6,8", "--shuffle", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == 8
    assert len(open_dataset(tmp_path / "db", INPUTS, STRETCH)) == 8
    assert accel("data", "pack", str(photos), str(tmp_path / "db")).returncode == 2
    assert accel("data", "pack", str(tmp_path / "no"), str(tmp_path / "db2")).returncode == 1

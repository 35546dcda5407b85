"""Folders, lists and arrays: order, labels, bad samples, digests, memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.batches import batch_size, batches, split, stack
from accel.builtin.datasets.streamed import StreamedDataset
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from PIL import Image

INPUTS = (TensorSpec("x", "float32", ("n", 3, 8, 8)),)
STRETCH = Preprocessing(resize="stretch")


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 12), (value, value, value)).save(path)
    return path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for at in (3, 1, 2, 0):
        picture(tmp_path / "flat" / f"p{at}.png", at * 10)
    (tmp_path / "flat" / "notes.md").write_text("not a picture")
    (tmp_path / "flat" / ".hidden.png").write_text("not looked at")
    return tmp_path / "flat"


def test_flat_folder_in_name_order_twice(flat: Path) -> None:
    data = open_dataset(flat, INPUTS, STRETCH)
    for _ in range(2):
        seen = list(data)
        assert [s.name for s in seen] == ["p0.png", "p1.png", "p2.png", "p3.png"]
        assert [float(s.inputs["x"][0, 0, 0, 0]) for s in seen] == [0, 10, 20, 30]
    assert seen[0].label is None
    assert seen[0].meta["original_size"] == (12, 10)
    assert len(data) == 4


def test_class_folders_by_sorted_name_number_or_label_file(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        picture(tmp_path / "named" / name / "a.png")
    assert [(s.name, s.label) for s in open_dataset(tmp_path / "named", INPUTS, STRETCH)] == [
        ("cat/a.png", 0),
        ("dog/a.png", 1),
    ]
    for name in ("10", "9"):
        picture(tmp_path / "numbered" / name / "a.png")
    assert {s.name: s.label for s in open_dataset(tmp_path / "numbered", INPUTS, STRETCH)} == {
        "10/a.png": 10,
        "9/a.png": 9,
    }
    labels = tmp_path / "labels.txt"
    labels.write_text("fish\ndog\ncat\n")
    data = open_dataset(tmp_path / "named", INPUTS, STRETCH, {"labels": str(labels)})
    assert {s.name: s.label for s in data} == {"cat/a.png": 2, "dog/a.png": 1}
    assert data.labels == ("fish", "dog", "cat")
    assert "label file" in data.notes[0]


def test_label_file_too_short(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("only\n")
    for name in ("0", "1"):
        picture(tmp_path / "data" / name / "a.png")
    with pytest.raises(AccelError, match="too short") as caught:
        open_dataset(tmp_path / "data", INPUTS, STRETCH, {"labels": str(labels)})
    assert caught.value.code == "data.labels"


def test_list_file(tmp_path: Path) -> None:
    picture(tmp_path / "with blank.png", 5)
    picture(tmp_path / "sub" / "b.png", 6)
    lines = tmp_path / "list.txt"
    lines.write_text("# comment\nwith blank.png 7\n\nsub/b.png\t3\n")
    assert [(s.name, s.label) for s in open_dataset(lines, INPUTS, STRETCH)] == [
        ("with blank.png", 7),
        ("sub/b.png", 3),
    ]
    lines.write_text("with blank.png\nsub/b.png\n")
    assert [s.label for s in open_dataset(lines, INPUTS, STRETCH)] == [None, None]
    lines.write_text("with blank.png 1\nwhat is this\n")
    with pytest.raises(AccelError, match="line 2"):
        open_dataset(lines, INPUTS, STRETCH)
    lines.write_text("with blank.png 1\nsub/b.png\n")
    with pytest.raises(AccelError, match="has none"):
        open_dataset(lines, INPUTS, STRETCH)


@pytest.mark.parametrize("kind", ["npy", "npz", "raw"])
def test_array_folder(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random((3, 8, 8), dtype=np.float32) for _ in range(3)]
    for at, array in enumerate(arrays):
        if kind == "npy":
            np.save(tmp_path / f"{at}.npy", array)
        elif kind == "npz":
            np.savez(tmp_path / f"{at}.npz", x=array[None], label=np.int64(at))
        else:
            array.astype("<f4").tofile(tmp_path / f"{at}.bin")
    spec = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
    seen = list(open_dataset(tmp_path, spec))
    for array, sample in zip(arrays, seen, strict=True):
        np.testing.assert_array_equal(sample.inputs["x"][0], array)
    if kind == "npz":
        assert [s.label for s in seen] == [0, 1, 2]


@pytest.mark.parametrize("compressed", [False, True])
def test_array_stack(tmp_path: Path, compressed: bool) -> None:
    array = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)
    path = tmp_path / "all.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=array, label=np.arange(5))
    seen = list(open_dataset(path, INPUTS))
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in seen]), array)
    assert [s.label for s in seen] == [0, 1, 2, 3, 4]
    np.save(tmp_path / "all.npy", array)
    assert len(open_dataset(tmp_path / "all.npy", INPUTS)) == 5
    np.save(tmp_path / "one.npy", array[0])
    assert len(open_dataset(tmp_path / "one.npy", INPUTS)) == 1


def test_two_inputs_come_from_npz(tmp_path: Path) -> None:
    specs = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int64", (1, 3)))
    np.savez(tmp_path / "s.npz", a=np.zeros(2, np.float32), b=np.arange(3))
    (sample,) = open_dataset(tmp_path / "s.npz", specs)
    assert sample.inputs["b"].tolist() == [[0, 1, 2]]
    with pytest.raises(AccelError, match="one input"):
        open_dataset(picture(tmp_path / "p" / "a.png"), specs, STRETCH)


def test_bad_arrays_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((4, 8, 8), np.float32))
    np.save(tmp_path / "dtype.npy", np.zeros((3, 8, 8), np.complex64))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "shape.npy").read_bytes()[:300])
    (tmp_path / "short.bin").write_bytes(b"1234")
    spec = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
    data = open_dataset(tmp_path, spec, None, {"skip_bad": "1"})
    assert list(data) == []
    assert set(data.skipped) == {"shape.npy", "dtype.npy", "pickle.npy", "cut.npy", "short.bin"}
    assert "[1, 4, 8, 8]" in data.skipped["shape.npy"]
    assert "768" in data.skipped["short.bin"]


def test_one_corrupt_picture_among_good_ones(flat: Path) -> None:
    (flat / "p1.png").write_bytes((flat / "p2.png").read_bytes()[:40])
    with pytest.raises(AccelError, match=r"p1\.png") as caught:
        list(open_dataset(flat, INPUTS, STRETCH))
    assert caught.value.code == "data.sample"
    data = open_dataset(flat, INPUTS, STRETCH, {"skip_bad": "true"})
    assert [s.name for s in data] == ["p0.png", "p2.png", "p3.png"]
    assert [*data.skipped] == ["p1.png"]
    assert any("p1.png" in note for note in data.notes)


def test_empty_missing_and_mixed(tmp_path: Path) -> None:
    for path, code in [(tmp_path, "data.empty"), (tmp_path / "no", "data.unreadable")]:
        with pytest.raises(AccelError) as caught:
            open_dataset(path, INPUTS, STRETCH)
        assert caught.value.code == code
    picture(tmp_path / "a.png")
    picture(tmp_path / "sub" / "b.png")
    with pytest.raises(AccelError, match="both"):
        open_dataset(tmp_path, INPUTS, STRETCH)
    (tmp_path / "what.xyz").write_text("")
    with pytest.raises(AccelError, match="not a data set"):
        open_dataset(tmp_path / "what.xyz", INPUTS, STRETCH)


def test_digest_follows_contents_names_labels_and_preprocessing(tmp_path: Path) -> None:
    picture(tmp_path / "0" / "a.png", 1)
    picture(tmp_path / "1" / "a.png", 2)

    def digest(declared: Preprocessing = STRETCH, **options: str) -> str:
        return open_dataset(tmp_path, INPUTS, declared, options).digest

    first = digest()
    assert first == digest()
    assert first == digest(skip_bad="1", threads="1")
    others = {digest(Preprocessing(resize="stretch", scale=0.5)), digest(samples="1")}
    (tmp_path / "1").rename(tmp_path / "2")
    others.add(digest())
    picture(tmp_path / "2" / "a.png", 3)
    others.add(digest())
    assert len(others | {first}) == 5


class Counting:
    """A source that knows how many samples were asked for."""

    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, bad: int = -1) -> None:
        self.started = 0
        self.bad = bad
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return 1000

    def name(self, index: int) -> str:
        return str(index)

    def load(self, index: int) -> Sample:
        with self._lock:
            self.started += 1
        return Sample(str(index), {})

    def fingerprint(self, index: int) -> bytes:
        return b""

    def settings(self) -> str:
        return ""


def test_reading_ahead_is_bounded_and_stops_with_the_reader() -> None:
    source = Counting()
    data = StreamedDataset(source, threads=3)
    reader = iter(data)
    for at in range(10):
        assert next(reader).name == str(at)
        assert source.started <= at + 1 + 6
    reader.close()  # type: ignore[attr-defined]
    assert source.started <= 10 + 6
    assert len(list(data.take(7))) == 7


def test_batches_stack_and_split() -> None:
    samples = [Sample(str(i), {"x": np.full((1, 2), i, np.float32)}) for i in range(5)]
    groups = list(batches(samples, 2))
    assert [[s.name for s in g] for g in groups] == [["0", "1"], ["2", "3"], ["4"]]
    feeds = stack(groups[-1], 2)
    assert feeds["x"].tolist() == [[4, 4], [4, 4]]
    shares = split({"y": np.arange(4).reshape(2, 2), "boxes": np.arange(6)}, 2)
    assert shares[1]["y"].tolist() == [[2, 3]]
    assert shares[1]["boxes"].tolist() == [3, 4, 5]
    with pytest.raises(AccelError, match="batch"):
        split({"y": np.arange(3)}, 2)
    assert batch_size((TensorSpec("x", "float32", (4, 3)),)) == 4
    assert batch_size(INPUTS) == 1

"""The models and photos of the zoo: real weights, known accuracy, and a checkpoint reader that runs nothing."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from make import MODELS, PREPROCESSING
from photos import calibration_photos, class_names, evaluation_photos
from PIL import Image
from state_dict import UnsafeCheckpointError, read_state_dict


def _pixels(path: Path, name: str) -> np.ndarray:
    how = PREPROCESSING[name]
    image = Image.open(path).convert("RGB")
    ratio = how.resize_to / min(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) * how.scale
    normal = (pixels - np.array(how.mean)) / np.array(how.std)
    return normal.transpose(2, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize(("name", "top1", "top5"), [("efficientnet-lite0", 18, 19), ("mobilenet-v2", 17, 19)])
def test_models_classify_real_photos(name: str, top1: int, top5: int) -> None:
    session = ort.InferenceSession(MODELS[name]().SerializeToString())
    ranks = []
    for path, label in evaluation_photos():
        (logits,) = session.run(None, {"input": _pixels(path, name)})
        ranks.append(np.argsort(-logits[0]).tolist().index(label))
    assert sum(r < 1 for r in ranks) == top1
    assert sum(r < 5 for r in ranks) == top5


def test_photos_are_there_and_apart() -> None:
    calibration, evaluation = calibration_photos(), evaluation_photos()
    assert len(calibration) == 13
    assert len(evaluation) == 20
    assert not set(calibration) & {path for path, _ in evaluation}
    assert class_names()[609] == "jeep"


def _write_pickle(state: bytes) -> bytes:
    return b"\x80\x02" + state + b"."


def _tensor_pickle(*, shape: tuple[int, ...], stride: tuple[int, ...], count: int) -> bytes:
    """The pickle of ``{"w": tensor}`` as PyTorch writes it, opcode by opcode."""

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + struct.pack("<i", count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + ints(shape) + ints(stride) + b"\x89"
    rebuilt += b"ccollections\nOrderedDict\n)RtR"
    return _write_pickle(b"ccollections\nOrderedDict\n)R" + text("w") + rebuilt + b"s")


def _zip_checkpoint(path: Path, pickled: bytes, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/data/0", data)
    return path


def test_zip_checkpoint_with_a_transposed_tensor(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4")
    path = _zip_checkpoint(tmp_path / "w.pth", _tensor_pickle(shape=(2, 3), stride=(1, 2), count=6), values.tobytes())
    assert np.array_equal(read_state_dict(path)["w"], values.reshape(3, 2).T)


def test_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = _zip_checkpoint(tmp_path / "w.pth", _tensor_pickle(shape=(2, 4), stride=(4, 1), count=6), bytes(24))
    with pytest.raises(ValueError, match="beyond its storage"):
        read_state_dict(path)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_hostile_pickle_is_refused_without_running_it(tmp_path: Path, protocol: int, layout: str) -> None:
    proof = tmp_path / "proof"
    hostile = pickle.dumps({"w": _Touch(proof)}, protocol)
    pickle.loads(hostile)
    assert proof.exists()  # it would run
    proof.unlink()
    path = tmp_path / "hostile.pth"
    if layout == "zip":
        _zip_checkpoint(path, hostile, b"")
    else:
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) * 2 + hostile)
    with pytest.raises(UnsafeCheckpointError):
        read_state_dict(path)
    assert not proof.exists()


def test_truncated_checkpoint_is_an_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {}):
        buffer.write(pickle.dumps(part, 2))
    whole = buffer.getvalue() + _tensor_pickle(shape=(3,), stride=(1,), count=3) + pickle.dumps(["0"], 2)
    whole += struct.pack("<q", 3) + np.ones(3, "<f4").tobytes()
    path = tmp_path / "w.pth"
    path.write_bytes(whole)
    assert np.array_equal(read_state_dict(path)["w"], np.ones(3))
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read_state_dict(path)

"""Artifact directories: what is written is read back; what was tampered with is refused."""

import json
from pathlib import Path

import pytest
from accel.artifact import SCHEMA, Manifest, NodeNumerics
from accel.artifacts import read_artifact, write_artifact, write_manifest
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing


def manifest() -> Manifest:
    return Manifest(
        schema=0,
        name="net",
        target="chip",
        vendor="acme",
        backend="reference",
        precision="int8",
        payload="reference",
        inputs=(TensorSpec("x", "float32", ("batch", 3, 8, 8)),),
        outputs=(TensorSpec("y", "float32", (1, 10)),),
        batches=(1, 4),
        files=(),
        model_digest="00",
        preprocessing=Preprocessing(size=(8, 8), mean=(1.0, 2.0, 3.0)),
        nodes=(NodeNumerics("conv", "Conv", "int8"),),
        details={"scales": {"x": 0.25, "deep": [1, [2.5, None]]}},
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    payload = tmp_path / "net.onnx"
    payload.write_bytes(b"payload")
    log = tmp_path / "made" / "logs" / "build.txt"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"log")
    write_artifact(tmp_path / "made", manifest(), {"model": payload, "log": [log]})
    return tmp_path / "made"


def refused(path: Path) -> AccelError:
    with pytest.raises(AccelError) as caught:
        read_artifact(path)
    return caught.value


def edit(artifact: Path, **changes: object) -> None:
    file = artifact / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_round_trip(artifact: Path) -> None:
    found = read_artifact(artifact)
    assert found.manifest.schema == SCHEMA
    assert found.manifest.inputs == manifest().inputs
    assert found.manifest.preprocessing == manifest().preprocessing
    assert found.manifest.details == manifest().details
    assert [(f.path, f.role, f.bytes) for f in found.manifest.files] == [
        ("net.onnx", "model", 7),
        ("logs/build.txt", "log", 3),
    ]
    assert found.file("model").read_bytes() == b"payload"
    assert read_artifact(artifact / "manifest.json") == found


def test_writing_twice_gives_the_same_bytes(artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()
    write_manifest(artifact, read_artifact(artifact).manifest)
    assert (artifact / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("data", [b"Payload", b"payloa", b""])
def test_edited_payload_is_refused(artifact: Path, data: bytes) -> None:
    (artifact / "net.onnx").write_bytes(data)
    assert refused(artifact).code == "artifact.changed"
    read_artifact(artifact, verify=False)


def test_edited_manifest_is_refused(artifact: Path) -> None:
    edit(artifact, precision="fp32")
    assert refused(artifact).code == "artifact.changed"


def test_newer_schema_is_refused_before_anything_else(artifact: Path) -> None:
    edit(artifact, schema=SCHEMA + 1, inputs="a form that only the newer version knows")
    error = refused(artifact)
    assert error.code == "artifact.newer" and error.exit_code == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 100_000, '{"schema": "1"}', "\xff"])
def test_broken_manifest(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_bytes(text.encode("latin-1"))
    assert refused(artifact).code == "artifact.unreadable"


def test_missing_payload(artifact: Path) -> None:
    (artifact / "net.onnx").unlink()
    assert refused(artifact).code == "artifact.incomplete"


def test_no_artifact(tmp_path: Path) -> None:
    assert refused(tmp_path).exit_code == 2
    assert refused(tmp_path / "absent").exit_code == 2


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret", "", ".", "C:/x", "..\\secret", "link"])
def test_paths_that_leave_the_artifact(artifact: Path, path: str) -> None:
    (artifact.parent / "secret").write_bytes(b"payload")
    (artifact / "link").symlink_to(artifact.parent / "secret")
    entry = {**json.loads((artifact / "manifest.json").read_text())["files"][0], "path": path}
    edit(artifact, files=[entry])
    assert refused(artifact).code in ("artifact.path", "artifact.changed")
    from accel.files import safe_join

    with pytest.raises(AccelError, match="outside itself"):
        safe_join(artifact, path)


def test_absent_and_clashing_files_are_refused_when_writing(tmp_path: Path) -> None:
    with pytest.raises(AccelError, match="left no model file"):
        write_artifact(tmp_path / "a", manifest(), {"model": tmp_path / "absent"})
    one, two = tmp_path / "x" / "f", tmp_path / "y" / "f"
    for file in (one, two):
        file.parent.mkdir()
        file.write_bytes(b"")
    with pytest.raises(AccelError, match="two files"):
        write_artifact(tmp_path / "b", manifest(), {"model": one, "data": two})

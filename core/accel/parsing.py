"""Parse and prepare, remembered by content: an unchanged source costs hashing and no graph work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cache import Cache, NoCache, code_state, key_of
from accel.errors import AccelError
from accel.files import atomic_file, sha256_file, workspace_beside
from accel.model import Model, TensorSpec
from accel.options import ParseOptions
from accel.plugins import hooks
from accel.progress import message, step

if TYPE_CHECKING:
    import onnx

_GRAPH, _FACTS = "model.onnx", "model.json"
_PARSED = "accel.parsed"


class StoredModel(Model):
    """A model whose graph is read when somebody looks at it; its digest and shapes are known before."""

    @cached_property
    def proto(self) -> onnx.ModelProto:
        import onnx

        return onnx.load(self.__dict__["_file"], load_external_data=False)


def parse(source: Path, options: ParseOptions, cache: Cache | None) -> Model:
    """Find the parsed model in ``cache``, or ask the frontends."""
    with step(f"parse {source.name}"):
        if not source.exists() or cache is None or isinstance(cache, NoCache):
            return _from_frontends(source, options)
        key = key_of(["parse", _content(source), source.name, options, _file_digest(options.weights), _code()])
        with cache.lock(key):
            held = cache.get("parse", key)
            found = _load(held) if held is not None else None
            # Files beside the source (external data) may have changed although it did not.
            if found is not None and found[1] == _digests(found[0].sources):
                message(f"{source.name}: parsed before, unchanged")
                return found[0]
            model = _from_frontends(source, options)
            _keep(cache, "parse", key, model)
            return model


def prepare(model: Model, switches: Mapping[str, bool], cache: Cache | None = None) -> Model:
    """Apply the preparation passes that are on, or find the result in ``cache``."""
    from accel.builtin import prepare as library

    library.check_names(switches)
    if not library.pending(model, switches) or cache is None or isinstance(cache, NoCache):
        return library.prepare(model, switches)
    key = key_of(["prepare", model.digest, model.name, model.passes, dict(switches), _code()])
    with cache.lock(key):
        held = cache.get("prepare", key)
        found = _load(held) if held is not None else None
        if found is not None:
            return found[0]
        prepared = library.prepare(model, switches)
        _keep(cache, "prepare", key, prepared)
        return prepared


def save_model(model: Model, path: Path) -> None:
    """Write the graph to one ONNX file, marked so that :func:`parse` takes it as it is."""
    import msgspec
    import onnx

    if model.vendor_reads:
        raise AccelError(
            "with --frontend vendor nothing is written: the compiler gets the files as they are",
            code="usage.frontend",
            hints=["Use `accel compile` on them, or parse without --frontend vendor."],
        )
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.metadata_props.add(key=_PARSED, value=msgspec.json.encode(_mark(model)).decode())
    with atomic_file(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def _from_frontends(source: Path, options: ParseOptions) -> Model:
    if source.is_file() and source.suffix == ".onnx":
        marked = _marked(source, options)
        if marked is not None:
            return marked
    model: Model | None = hooks().accel_parse(source=source, options=options)
    if model is None and not source.exists():
        raise AccelError(f"there is no file {source}", code="usage.missing-file", hints=["Check the path."])
    if model is None:
        raise AccelError(
            f"{source} is no network that an installed frontend reads",
            code="usage.file-kind",
            hints=["ONNX is built in; see docs/parse.md for the other formats."],
        )
    return model


def _marked(source: Path, options: ParseOptions) -> Model | None:
    """The model that :func:`save_model` wrote, unless it was edited or options ask for more."""
    data = source.read_bytes()
    if _PARSED.encode() not in data[-100_000:] or options != ParseOptions(name=options.name):
        return None
    import msgspec
    import onnx
    from google.protobuf.message import DecodeError

    from accel.model import io_specs

    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError:
        return None  # the frontend says what is wrong with it
    text = next((p.value for p in proto.metadata_props if p.key == _PARSED), "")
    kept = [p for p in proto.metadata_props if p.key != _PARSED]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    try:
        mark = msgspec.json.decode(text, type=dict[str, Any])
        inputs, outputs = io_specs(proto)
        model = Model(proto, str(mark["name"]), inputs, outputs, (source,), tuple(mark["passes"]), tuple(mark["notes"]))
        return model if mark == _mark(model) else None
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None


def _mark(model: Model) -> dict[str, Any]:
    facts = {"name": model.name, "passes": list(model.passes), "notes": list(model.notes)}
    return {**facts, "digest": key_of([model.digest, facts])}


def _keep(cache: Cache, kind: str, key: str, model: Model) -> None:
    import msgspec

    facts = {
        "name": model.name,
        "digest": model.digest,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "sources": [str(s) for s in model.sources],
        "source_digests": _digests(model.sources),
        "passes": model.passes,
        "notes": model.notes,
        "vendor_reads": model.vendor_reads,
    }
    with workspace_beside(cache.root / "model") as work:
        (work / _GRAPH).write_bytes(model.proto.SerializeToString(deterministic=True))
        (work / _FACTS).write_bytes(msgspec.json.encode(facts))
        cache.put(kind, key, work, model.name)


def _load(folder: Path) -> tuple[Model, list[str]] | None:
    import msgspec

    try:
        facts: dict[str, Any] = msgspec.json.decode((folder / _FACTS).read_bytes())
        model = StoredModel.__new__(StoredModel)
        model.__dict__.update(
            _file=folder / _GRAPH,
            name=facts["name"],
            digest=facts["digest"],
            inputs=tuple(msgspec.convert(facts["inputs"], list[TensorSpec])),
            outputs=tuple(msgspec.convert(facts["outputs"], list[TensorSpec])),
            sources=tuple(Path(s) for s in facts["sources"]),
            passes=tuple(facts["passes"]),
            notes=tuple(facts["notes"]),
            vendor_reads=bool(facts["vendor_reads"]),
        )
        return model, facts["source_digests"]
    except (OSError, KeyError, TypeError, msgspec.MsgspecError):
        return None


def _content(source: Path) -> list[list[str]]:
    """Names and digests of the file, or of all files in a folder (SavedModel)."""
    if source.is_file():
        return [["", sha256_file(source)]]
    files = sorted(p for p in source.rglob("*") if p.is_file())
    return [[p.relative_to(source).as_posix(), sha256_file(p)] for p in files]


def _digests(files: Sequence[Path]) -> list[str]:
    return [_file_digest(f) for f in files]


def _file_digest(path: Path | None) -> str:
    return sha256_file(path) if path is not None and path.is_file() else ""


def _code() -> list[str]:
    from accel import __version__
    from accel.plugins import EXTENSIONS, registry
    from accel.versions import versions

    extensions = [str(o) for o in registry().origins(EXTENSIONS)]
    tools = versions(["onnx", "onnxslim", "onnxruntime"])
    return [__version__, code_state("accel"), *extensions, *(f"{k} {v}" for k, v in tools.items())]

"""What every export script shares: it reads a request, writes a reply, and says why when it cannot.

Runs on a framework's own Python. Standard library and NumPy only.
"""

import json
import sys
import traceback
import zipfile
from pathlib import Path

import numpy as np


class Refused(Exception):  # noqa: N818
    """The export cannot be done; the driver shows this as its own error."""

    def __init__(self, code, summary, cause="", hints=(), node=""):
        super().__init__(summary)
        self.reply = {"code": code, "summary": summary, "cause": cause, "hints": list(hints), "node": node}


def say(what):
    """Show the driver's user what is being done."""
    print(f"accel: {what}", flush=True)


def main(export):
    """Call ``export(request, folder)``; leave ``reply.json`` in the request's folder."""
    path = Path(sys.argv[1]).resolve()
    folder = path.parent
    request = json.loads(path.read_text(encoding="utf-8"))
    say(f"reading {Path(request['source']).name}")
    try:
        reply, rc = {"result": export(request, folder) or {}}, 0
    except Refused as error:
        reply, rc = {"error": error.reply}, 1
    except Exception as error:
        traceback.print_exc()
        text = last_words(error)
        summary = "the network cannot be exported to ONNX"
        reply = {"error": {"code": "model.export", "summary": summary, "cause": text, "hints": [], "node": ""}}
        rc = 1
    (folder / "reply.json").write_text(json.dumps(reply), encoding="utf-8")
    sys.exit(rc)


_LARGE, _RATIO = 100_000_000, 200


def refuse_bomb(path):
    """Refuse a zip whose parts grow without measure when they are read: weights hardly shrink."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # who reads it says what is wrong
    for part in parts:
        if part.file_size > _LARGE and part.file_size > _RATIO * part.compress_size:
            size = f"{part.compress_size / 1e6:.1f} MB would become {part.file_size / 1e9:.1f} GB"
            raise Refused("model.bomb", f"{Path(path).name} was refused: its part {part.filename!r} is a bomb", size)


def last_words(error):
    """The end of a framework's message: what stands before it is a trace through its own files."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return "\n".join(lines[-3:])[-600:] or type(error).__name__


def samples(inputs, batch):
    """Seeded inputs: ``inputs`` is a list of {name, shape, dtype}; a first dimension of -1 becomes ``batch``."""
    rng = np.random.default_rng(0)
    made = {}
    for spec in inputs:
        shape = [batch if i == 0 and d == -1 else d for i, d in enumerate(spec["shape"])]
        dtype = np.dtype(spec.get("dtype") or "float32")
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        made[spec["name"]] = np.asarray(values).astype(dtype)
    return made


def save_samples(folder, batch, feeds, results):
    """What the network answers in its own framework, for the driver to compare with."""
    arrays = {f"in:{name}": value for name, value in feeds.items()}
    arrays.update({f"out:{i}": np.asarray(value) for i, value in enumerate(results)})
    np.savez(folder / f"samples{batch}.npz", **arrays)

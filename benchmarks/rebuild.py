"""A rebuild that finds everything: what ``accel compile`` of an unchanged network costs beyond hashing its inputs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from table import Row

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5


def hashing(files: Sequence[Path]) -> float:
    """CPU seconds to read and hash files once."""
    started = time.process_time()
    for file in files:
        hashlib.sha256(file.read_bytes()).hexdigest()
    return time.process_time() - started


def rows() -> Iterator[Row]:
    """EfficientNet-Lite0 for J5 on the embedded reference, compiled once and then again and again."""
    sys.path.insert(0, str(ROOT / "examples" / "zoo"))
    import make
    import onnx
    import photos
    from accel.cli.main import run

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        network, cache, listed = work / "el0.onnx", work / "cache", photos.calibration_photos()
        onnx.save(make.efficientnet_lite0(), network)
        (work / "photos.txt").write_text("\n".join(map(str, listed)) + "\n")
        words = ["compile", str(network), "-t", "j5", "--backend", "reference", "-d", f"list:{work / 'photos.txt'}"]
        words += ["-o", str(work / "build"), "-q"]
        held = os.environ.get("ACCEL_CACHE_DIR")
        os.environ["ACCEL_CACHE_DIR"] = str(cache)
        seconds = []
        try:
            for _ in range(1 + RUNS):
                started, printed = time.process_time(), io.StringIO()
                with contextlib.redirect_stdout(printed):
                    code = run(words)
                seconds.append(time.process_time() - started)
                if code or (len(seconds) > 1 and "cached" not in printed.getvalue()):
                    raise SystemExit("the rebuild was no hit")
        finally:
            os.environ.pop("ACCEL_CACHE_DIR")
            if held is not None:
                os.environ["ACCEL_CACHE_DIR"] = held
        inputs = [network, *listed, *(p for p in cache.rglob("*") if p.is_file())]
        hashed, found = hashing(inputs), statistics.median(seconds[1:])
        detail = f"{found:.2f} in all, hashing {hashed:.2f}; the first build {seconds[0]:.1f}"
        yield Row("cached rebuild beyond hashing: CPU", max(0.0, found - hashed), 0.3, unit="s", detail=detail)


if __name__ == "__main__":
    for row in rows():
        print(*row.cells(), sep="  |  ", flush=True)

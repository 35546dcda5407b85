"""Horizon's builds through accel against the vendor's own command on the same network, photos and options.

    python benchmarks/horizon.py [--network mobilenet-v2] [--runs 3] [--opt 1]

CPU seconds (user and system, children included) side by side, alternating, in one run: what accel adds to the
compiler must stay below a tenth. The vendor's command calibrates with `max`, the quickest of its methods; accel
parses, prepares, calibrates by its own statistics and builds, from the ONNX file to the artifact.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ZOO = Path(__file__).resolve().parent.parent / "examples" / "zoo"
sys.path.insert(0, str(ZOO))
LIMIT = 1.1


def measured(command: list[str], environ: dict[str, str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command that must succeed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_hand(folder: Path, network: Path, samples: list[np.ndarray], opt: int) -> None:
    """What a user of hb_mapper prepares: an opset 11 model with batch 1, raw samples, a YAML file."""
    import onnx
    from accel import driver
    from accel_horizon.prepare import for_horizon

    onnx.save(for_horizon(driver.prepare(driver.parse(network)), 1).proto, str(folder / "model.onnx"))
    (folder / "cal_f32").mkdir()
    for at, sample in enumerate(samples):
        sample.tofile(folder / "cal_f32" / f"{at}.bin")
    (folder / "x.yaml").write_text(
        f"""model_parameters: {{onnx_model: model.onnx, march: bayes, working_dir: out, output_model_file_prefix: P}}
input_parameters: {{input_type_rt: featuremap, input_type_train: featuremap, input_layout_train: NCHW,
  input_layout_rt: NCHW, norm_type: no_preprocess}}
calibration_parameters: {{cal_data_dir: cal_f32, cal_data_type: float32, calibration_type: max}}
compiler_parameters: {{compile_mode: latency, optimize_level: O{opt}, core_num: 1, debug: true}}
""",
        encoding="utf-8",
    )


def main() -> None:
    from accel.toolchain.find import require
    from accel.toolchain.process import tool_environ
    from accel_horizon.toolchain import HORIZON
    from photos import calibration_photos
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet-v2")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--opt", type=int, default=1)
    given = parser.parse_args()
    env = require(HORIZON)
    rows = []
    with tempfile.TemporaryDirectory(prefix="accel-bench-") as name:
        work = Path(name)
        network = work / "net.onnx"
        subprocess.run([sys.executable, str(ZOO / "make.py"), given.network, str(network)], check=True)
        (work / "photos").mkdir()
        samples = []
        for at, photo in enumerate(calibration_photos()):
            picture = Image.open(photo).convert("RGB").resize((224, 224))
            picture.save(work / "photos" / f"{at:02d}.png")
            samples.append(((np.asarray(picture, np.float32).transpose(2, 0, 1)[None] - 127) / 64).astype(np.float32))
        hand = work / "hand"
        hand.mkdir()
        by_hand(hand, network, samples, given.opt)
        accel = [
            str(Path(sys.executable).with_name("accel")),
            "compile",
            str(network),
            "-t",
            "j5",
            "--backend",
            "vendor",
        ]
        accel += ["--data", str(work / "photos"), "--mean", "127", "--std", "64", "--opt", str(given.opt)]
        accel += ["-o", str(work / "build"), "--no-cache"]
        for _ in range(given.runs):
            shutil.rmtree(hand / "out", ignore_errors=True)
            command = ["hb_mapper", "makertbin", "--config", "x.yaml", "--model-type", "onnx"]
            theirs = measured([str(env.bin[0] / command[0]), *command[1:]], tool_environ(env), hand)
            shutil.rmtree(work / "build", ignore_errors=True)
            ours = measured(accel, dict(os.environ), work)
            rows.append((theirs, ours))
            print(
                f"hb_mapper {theirs[0]:.1f} s wall {theirs[1]:.1f} s CPU   "
                f"accel compile {ours[0]:.1f} s wall {ours[1]:.1f} s CPU"
            )
    ratio = statistics.median(o[1] / t[1] for t, o in rows)
    print(f"{given.network} j5 O{given.opt}: accel / hb_mapper CPU {ratio:.2f} (at most {LIMIT})")
    if ratio > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

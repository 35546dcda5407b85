"""Horizon's builds through accel against the vendor's own command on the same network, photos and options.

    python benchmarks/horizon.py [--network mobilenet-v2] [--runs 3] [--opt 2]

CPU seconds (user and system, children included) side by side, alternating, in one run: what accel adds to the
compiler must stay below a tenth. By hand: a script that lowers the network and writes the samples, then hb_mapper
with `max`, the quickest of its calibrations. accel parses, prepares, calibrates by its own statistics, corrects biases
and builds, from the ONNX file and the photos to the artifact.
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


# What a user of hb_mapper writes first: the network at opset 11 with batch 1 and scalar Clip bounds, raw samples.
PREPARE = """
import sys
from pathlib import Path
import numpy as np, onnx
from onnx import numpy_helper
from PIL import Image
network, photos, folder = sys.argv[1:]
model = onnx.load(network)
model.opset_import[0].version, model.ir_version = 11, 7
model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
bounds = {name for node in model.graph.node if node.op_type == "Clip" for name in node.input[1:]}
for held in model.graph.initializer:
    if held.name in bounds:
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held).reshape(()), held.name))
onnx.save(model, folder + "/model.onnx")
Path(folder, "cal_f32").mkdir(exist_ok=True)
for photo in sorted(Path(photos).iterdir()):
    pixels = np.asarray(Image.open(photo).convert("RGB"), np.float32).transpose(2, 0, 1)
    ((pixels - 127) / 64).astype(np.float32).tofile(folder + "/cal_f32/" + photo.stem + ".bin")
"""
YAML = """model_parameters: {{onnx_model: model.onnx, march: bayes, working_dir: out, output_model_file_prefix: P}}
input_parameters: {{input_type_rt: featuremap, input_type_train: featuremap, input_layout_train: NCHW,
  input_layout_rt: NCHW, norm_type: no_preprocess}}
calibration_parameters: {{cal_data_dir: cal_f32, cal_data_type: float32, calibration_type: max}}
compiler_parameters: {{compile_mode: latency, optimize_level: O{opt}, core_num: 1, debug: true}}
"""


def main() -> None:
    from accel.toolchain.find import require
    from accel.toolchain.process import tool_environ
    from accel_horizon.toolchain import HORIZON
    from photos import calibration_photos
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet-v2")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--opt", type=int, default=2, help="hbdk-cc's level; 2 is what accel takes")
    given = parser.parse_args()
    env = require(HORIZON)
    rows = []
    with tempfile.TemporaryDirectory(prefix="accel-bench-") as name:
        work = Path(name)
        network = work / "net.onnx"
        subprocess.run([sys.executable, str(ZOO / "make.py"), given.network, str(network)], check=True)
        (work / "photos").mkdir()
        for at, photo in enumerate(calibration_photos()):
            Image.open(photo).convert("RGB").resize((224, 224)).save(work / "photos" / f"{at:02d}.png")
        hand = work / "hand"
        hand.mkdir()
        (hand / "x.yaml").write_text(YAML.format(opt=given.opt), encoding="utf-8")
        prepare = [sys.executable, "-c", PREPARE, str(network), str(work / "photos"), str(hand)]
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
            first = measured(prepare, dict(os.environ), hand)
            then = measured([str(env.bin[0] / command[0]), *command[1:]], tool_environ(env), hand)
            theirs = (first[0] + then[0], first[1] + then[1])
            shutil.rmtree(work / "build", ignore_errors=True)
            ours = measured(accel, dict(os.environ), work)
            rows.append((theirs, ours))
            print(
                f"by hand {theirs[0]:.1f} s wall {theirs[1]:.1f} s CPU   "
                f"accel compile {ours[0]:.1f} s wall {ours[1]:.1f} s CPU"
            )
    ratio = statistics.median(o[1] / t[1] for t, o in rows)
    print(f"{given.network} j5 O{given.opt}: accel / by hand CPU {ratio:.2f} (at most {LIMIT})")
    if ratio > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Horizon's compiler and simulator as a toolchain: what is installed, how it is mended, how it proves itself.

The three vendor wheels come from the package index under their own licence; nothing of them is kept here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.spec import Environment, Toolchain

VENDOR_SIDE = Path(__file__).with_name("vendor_side")
"""Scripts that run on the toolchain's Python."""

_VENDOR = ("dgdk==1.0.0", "dg-nn-toolkit==1.0.0", "rdkx5-yolo-mapper==1.0.0")

# What the wheels import when they compile and simulate ONNX and Caffe models; versions they were seen to work with.
_NEEDED = (
    "bcrypt==5.0.0",
    "cffi==2.1.1",
    "click==8.5.1",
    "contourpy==1.3.2",
    "cryptography==50.0.2",
    "cycler==0.12.1",
    "dill==0.4.1",
    "fonttools==4.65.0",
    "imageio==2.38.0",
    "jinja2==3.1.6",
    "kiwisolver==1.5.1",
    "markupsafe==3.0.4",
    "matplotlib==3.8.4",
    "multiprocess==0.70.19",
    "networkx==3.4.2",
    "numpy==1.23.0",
    "onnx==1.15.0",
    "opencv-python-headless==4.6.0.66",
    "packaging==26.3",
    "paramiko==5.1.0",
    "pillow==10.4.0",
    "protobuf==3.20.3",
    "pycparser==3.11",
    "pynacl==1.6.2",
    "pyparsing==3.3.3",
    "python-dateutil==3.0.0",
    "pywavelets==1.8.0",
    "pyyaml==6.0.3",
    "schema==0.7.8",
    "scikit-image==0.19.0",
    "scipy==1.13.1",
    "setuptools==68.2.2",  # hbdk-config wants pkg_resources.packaging, which later ones dropped
    "six==1.17.0",
    "tabulate==0.10.0",
    "tifffile==2025.5.10",
    "tqdm==4.70.1",
)


def _site_packages(env: Environment) -> Path:
    return env.root / "lib" / "python3.10" / "site-packages"


def mend(env: Environment) -> None:
    """Put the stand-in for torch in place: hmct imports torch at its start and computes nothing with it."""
    shutil.copyfile(VENDOR_SIDE / "torch_stand_in.py", _site_packages(env) / "torch.py")


def prove(env: Environment) -> str:
    """Compile a tiny network for J5 and compare the compiled file's simulation with the quantised network's.

    Raises:
        AccelError: ``toolchain.broken`` when that fails.
    """
    from accel.toolchain.process import run

    with tempfile.TemporaryDirectory(prefix="accel-horizon-") as folder:
        work = Path(folder)
        log = work / "probe.log"
        done = run(env, [env.python, VENDOR_SIDE / "probe.py"], cwd=work, log=log, timeout=300, stage="toolchain")
        result = work / "probe.json"
        if done.rc or not result.is_file():
            raise AccelError(
                "the Horizon toolchain does not work on this machine",
                code="toolchain.broken",
                cause=done.tail(3),
                hints=["Install it again: accel toolchain install horizon --again", "It needs Linux on x86-64."],
            )
        found = json.loads(result.read_text(encoding="utf-8"))
        return f"hbdk {found['hbdk']}, hmct {found['hmct']}: compiled and simulated a tiny network for J5"


HORIZON = Toolchain(
    name="horizon",
    version="3.49.15",
    summary="hbdk 3.49.15 and hmct 1.1.0: compiler and simulator for bernoulli2, bayes and bayes-e",
    python="3.10",
    requirements=(*_VENDOR, *_NEEDED),
    download_bytes=330_000_000,
    installed_bytes=1_000_000_000,
    post_install=mend,
    probe=prove,
    variables={"OPENBLAS_NUM_THREADS": "1"},
)

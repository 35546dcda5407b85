"""Sophon's compiler: `tpu_mlir` in an environment of its own, mended after the install, proven by a tiny network."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from accel.errors import AccelError
from accel.toolchain.spec import Environment, Toolchain

VERSION = "1.30.2"

# What the compiler imports on the ONNX and Caffe paths, at the versions its metadata pins. psutil, filelock and
# setuptools (pkg_resources) are imported without being declared.
REQUIREMENTS = (
    f"tpu_mlir=={VERSION}",
    "numpy==1.24.3",
    "scipy==1.11.1",
    "tqdm==4.65.0",
    "pillow==10.0.0",
    "plotly==5.15.0",
    "opencv-python-headless==4.8.0.74",
    "protobuf==3.20.3",
    "graphviz==0.20.1",
    "scikit-learn==1.6.1",
    "joblib==1.4.2",
    "threadpoolctl==3.6.0",
    "onnxruntime-extensions==0.14.0",
    "onnx==1.14.1",
    "onnxruntime==1.16.3",
    "onnxsim==0.4.17",
    "flatbuffers==24.12.23",
    "rich==13.9.4",
    "psutil==7.0.0",
    "filelock==3.18.0",
    "setuptools==75.8.0",
)

# Imported by modules that serve networks we never hand over (PyTorch, LLMs); nothing is computed with them on our
# paths. The real ones would add gigabytes, and seconds to every start.
_STUBBED = {
    "torch": ["nn", "nn.functional", "utils", "utils.data"],
    "transformers": ["convert_slow_tokenizer"],
    "tokenizers": [],
}

_STUB = '''"""Stands in for a package that the compiler imports and does not use for ONNX and Caffe networks."""
import sys
import types


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *args, **kwargs):
        # As a decorator it must give back what it decorates.
        if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType):
            return args[0]
        return super().__call__(*args, **kwargs) if cls is not Anything else cls


class Anything(metaclass=_Anything):
    pass


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything


__version__ = "0.0.0"
__path__ = []
for _name in %s:
    _module = types.ModuleType(__name__ + "." + _name)
    _module.__getattr__ = __getattr__
    _module.__path__ = []
    sys.modules[_module.__name__] = _module
'''


def mend(env: Environment) -> None:
    """Make the installed wheel work on this machine.

    Three things: the wheel bundles files of one glibc, which kill every tool on a host with a newer one; some
    packages are imported and never used; the scripts are not executable.
    """
    site = _site(env)
    package = site / "tpu_mlir"
    bundled = package / "lib" / "third_party"
    aside = package / "lib" / "third_party_unused"
    aside.mkdir(exist_ok=True)
    for name in ("libc.so.6", "libm.so.6", "libpthread.so.0"):
        if (bundled / name).exists():
            (bundled / name).replace(aside / name)
    for name, children in _STUBBED.items():
        if not (site / name).exists():
            (site / f"{name}.py").write_text(_STUB % repr(children), encoding="utf-8")
    for folder in (package / "bin", package / "python" / "tools"):
        for file in folder.iterdir():
            if file.is_file():
                file.chmod(0o755)


def prove(env: Environment) -> str:
    """Compile a tiny network for two chips and simulate it; the line that ``accel doctor`` shows.

    Raises:
        AccelError: ``toolchain.broken`` with the compiler's log.
    """
    from accel_sophon.prove import compile_and_simulate

    folder = Path(tempfile.mkdtemp(prefix="accel-sophon-"))
    try:
        return compile_and_simulate(env, folder)
    except AccelError as error:
        kept = env.root.parent / "sophon-probe.log"
        if error.log and error.log.exists():
            shutil.copy(error.log, kept)
        raise AccelError(
            "the Sophon compiler does not work on this machine",
            code="toolchain.broken",
            cause=error.cause or error.summary,
            log=kept,
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _site(env: Environment) -> Path:
    return env.root / "lib" / "python3.10" / "site-packages"


_PACKAGE = "{site}/tpu_mlir"

SOPHON = Toolchain(
    name="sophon",
    version=VERSION,
    summary="Sophon's TPU-MLIR compiler and simulators",
    python="3.10",
    requirements=REQUIREMENTS,
    download_bytes=500_000_000,
    installed_bytes=2_500_000_000,
    post_install=mend,
    probe=prove,
    bin=("bin", "lib/python3.10/site-packages/tpu_mlir/bin", "lib/python3.10/site-packages/tpu_mlir/python/tools"),
    # What `import tpu_mlir` sets; set beforehand, the tools start without its launcher (and its second interpreter).
    variables={
        "TPUC_ROOT": _PACKAGE,
        "PYTHONPATH": f"{_PACKAGE}/:{_PACKAGE}/python/:{_PACKAGE}/customlayer/python/",
        "LD_LIBRARY_PATH": f"{_PACKAGE}/lib:{_PACKAGE}/lib/capi:{_PACKAGE}/lib/third_party",
    },
)

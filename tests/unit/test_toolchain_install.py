"""Managed environments, made from a wheel that the test writes: nothing is downloaded."""

from __future__ import annotations

import dataclasses
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from accel.errors import AccelError
from accel.toolchain import find, install, process
from accel.toolchain.spec import Environment, Toolchain

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv(f"ACCEL_PYTHON_{VERSION.replace('.', '_')}", sys.executable)
    return tmp_path / "data"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "toyc-1.0.dist-info"
    with zipfile.ZipFile(folder / "toyc-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toyc.py", "def main():\n    print('toyc says hello')\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toyc\nVersion: 1.0\nRequires-Dist: not-there\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntoyc = toyc:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def probe(env: Environment) -> str:
    done = process.run(env, [env.root / "bin" / "toyc"], cwd=env.root, log=env.root / "probe.log")
    if done.rc:
        raise AccelError("toyc does not run", code="toolchain.broken", cause=done.tail())
    return "toyc 1.0 works"


def mend(env: Environment) -> None:
    (env.root / "mended").write_text("yes")


TOY = Toolchain(
    name="toy",
    version="1.0",
    summary="a toy",
    python=VERSION,
    requirements=("toyc==1.0",),
    post_install=mend,
    probe=probe,
    variables={"TOY_HOME": "{site}"},
)


def test_install_find_remove(wheels: Path, data_home: Path) -> None:
    assert find.find(TOY) is None
    env = install.install(TOY, wheels)
    assert env.root == data_home / "accel" / "toolchains" / "toy-1.0"
    assert (env.root / "mended").exists()
    assert Path(env.variables["TOY_HOME"], "toyc.py").exists()
    # The scripts work from the place it was renamed to.
    assert "toyc says hello" in process.run(env, ["toyc"], cwd=data_home, log=data_home / "log").text()
    status = find.status(TOY)
    assert status.state == "ready" and status.detail == "toyc 1.0 works"
    assert [root for root, _ in install.installed()] == [env.root]
    assert install.remove(TOY) and not install.remove(TOY)
    assert not list((data_home / "accel" / "toolchains").glob("*toy-1.0*/**/*"))


def test_missing_says_how_to_get_it() -> None:
    with pytest.raises(AccelError) as caught:
        find.require(TOY)
    assert caught.value.code == "toolchain.missing" and caught.value.exit_code == 4
    assert "accel toolchain install toy" in caught.value.hints[0]


def test_a_failing_probe_leaves_nothing(wheels: Path, data_home: Path) -> None:
    def broken(env: Environment) -> str:
        raise AccelError("glibc is too old", code="toolchain.broken")

    with pytest.raises(AccelError, match="glibc"):
        install.install(dataclasses.replace(TOY, probe=broken), wheels)
    assert find.find(TOY) is None
    assert not [p for p in (data_home / "accel" / "toolchains").iterdir() if p.is_dir()]


def test_a_package_that_is_not_there(wheels: Path) -> None:
    with pytest.raises(AccelError) as caught:
        install.install(dataclasses.replace(TOY, requirements=("toyc==1.0", "toyd==2.0")), wheels)
    assert caught.value.code == "toolchain.download"
    assert "toyd" in caught.value.cause


def test_leftovers_of_a_killed_install_are_swept(wheels: Path, data_home: Path) -> None:
    half = data_home / "accel" / "toolchains" / ".toy-1.0.abc.part"
    (half / "bin").mkdir(parents=True)
    install.install(TOY, wheels)
    assert not half.exists()


def test_a_changed_declaration_is_outdated_and_made_again(wheels: Path) -> None:
    install.install(TOY, wheels)
    newer = dataclasses.replace(TOY, revision=2)
    assert find.status(newer).state == "outdated"
    install.install(newer, wheels)
    assert find.status(newer).state == "ready"


def test_without_stamp_it_is_broken(wheels: Path) -> None:
    env = install.install(TOY, wheels)
    (env.root / find.STAMP).write_text("{")
    assert find.status(TOY).state == "broken"
    install.install(TOY, wheels)
    assert find.status(TOY).state == "ready"


def test_two_installs_make_one(wheels: Path) -> None:
    made: list[int] = []
    counting = dataclasses.replace(TOY, post_install=lambda env: made.append(1))
    threads = [threading.Thread(target=install.install, args=(counting, wheels)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_no_room(wheels: Path) -> None:
    with pytest.raises(AccelError) as caught:
        install.install(dataclasses.replace(TOY, installed_bytes=1 << 60), wheels)
    assert caught.value.code == "toolchain.disk"


def test_no_such_python(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", "/nowhere")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(AccelError) as caught:
        install.install(dataclasses.replace(TOY, python="3.99"), wheels)
    assert caught.value.code == "toolchain.python"
    assert "ACCEL_PYTHON_3_99" in caught.value.hints[1]


def test_a_folder_that_cannot_be_written(wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(AccelError) as caught:
        install.install(TOY, wheels)
    assert caught.value.code == "toolchain.disk"


def test_system_kind_is_found_or_not() -> None:
    absent = Toolchain("sdk", "", "the SDK", kind="system", locate=lambda: None)
    assert find.find(absent) is None
    with pytest.raises(AccelError) as caught:
        install.install(absent)
    assert caught.value.code == "toolchain.missing"
    there = Environment("sdk", "1.2", Path("/opt/sdk"), Path(sys.executable))
    present = dataclasses.replace(absent, locate=lambda: there)
    assert install.install(present) == there
    with pytest.raises(AccelError):
        install.remove(present)

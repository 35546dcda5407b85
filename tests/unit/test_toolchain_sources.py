"""Packages come from where pip gets them: a mirror is set once."""

from __future__ import annotations

import dataclasses
import os
import sys
import zipfile
from pathlib import Path

import pytest
from accel.errors import AccelError
from accel.toolchain import install, process, sources
from accel.toolchain.spec import Environment, Toolchain

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
TOY = Toolchain("toy", "1.0", "a toy", python=VERSION, requirements=("toyc==1.0",))


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_")) and n != "UV_CACHE_DIR"]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(f"ACCEL_PYTHON_{VERSION.replace('.', '_')}", sys.executable)


def wheel(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"toyc-{version}.dist-info"
    with zipfile.ZipFile(folder / f"toyc-{version}-py3-none-any.whl", "w") as made:
        made.writestr("toyc.py", f"print({version!r})\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toyc\nVersion: {version}\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")
    return folder


def index(folder: Path, version: str) -> str:
    """A folder that is a package index with toyc on it."""
    files = wheel(folder / "toyc", version)
    links = "".join(f'<a href="{p.name}">{p.name}</a>' for p in files.glob("*.whl"))
    (files / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return folder.as_uri()


def installed(env: Environment, folder: Path) -> str:
    log = folder / "log"
    assert process.run(env, [env.python, "-c", "import toyc"], cwd=folder, log=log).rc == 0
    return log.read_text().splitlines()[-1]


def test_pips_options_in_uvs_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, named = tmp_path / "CONFIG" / "pip" / "pip.conf", tmp_path / "named.conf"
    user.parent.mkdir(parents=True)
    user.write_text(
        "[global]\nindex-url = https://mirror.example/simple\ncert = /my/ca.pem\n"
        "[install]\nextra-index-url =\n  https://a.example\n  https://b.example\n[download]\nproxy = http://no\n"
    )
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert not sources.own_sources()
    found = sources.pip_variables()
    assert sources.names_sources(found)
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert found["UV_INDEX"] == "https://a.example https://b.example"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["SSL_CERT_FILE"] == "/my/ca.pem" and "HTTPS_PROXY" not in found
    named.write_text("[global]\nno_index = true\nfind_links = w1 w2\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))  # instead of the user's
    found = sources.pip_variables()
    assert found["UV_NO_INDEX"] == "1" and found["UV_FIND_LINKS"] == "w1,w2"
    assert "UV_INDEX" not in found
    monkeypatch.setenv("PIP_FIND_LINKS", "w3")
    assert sources.pip_variables()["UV_FIND_LINKS"] == "w3"
    monkeypatch.setenv("UV_FIND_LINKS", "w4")
    assert sources.own_sources()


def test_a_damaged_file_of_pip_is_pips_affair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_bytes(b"\xff\xfe[global\nindex-url")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    sources.pip_variables()


def test_pips_index_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index(tmp_path / "mirror", "1.0"))
    assert installed(install.install(TOY), tmp_path) == "1.0"


def with_own_index(url: str) -> Toolchain:
    return dataclasses.replace(
        TOY, installer_variables={"UV_DEFAULT_INDEX": url}, elsewhere={"toyc==1.0": "toyc==1.0+x"}
    )


def test_another_build_is_asked_for_where_the_general_index_has_the_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = index(tmp_path / "own", "1.0")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index(tmp_path / "mirror", "1.0"))
    monkeypatch.setenv("PIP_INDEX_URL", index(tmp_path / "main", "1.0+x"))
    assert installed(install.install(with_own_index("file:///nowhere")), tmp_path) == "1.0+x"
    monkeypatch.setenv("PIP_INDEX_URL", index(tmp_path / "other", "1.0"))  # then the toolchain's own index
    assert installed(install.install(with_own_index(own), again=True), tmp_path) == "1.0"


def test_uvs_own_sources_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(wheel(tmp_path / "wheels", "1.0+x")))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    assert installed(install.install(with_own_index("file:///nowhere")), tmp_path) == "1.0+x"


def test_every_source_is_named_when_none_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index(tmp_path / "mirror", "1.0"))
    with pytest.raises(AccelError) as caught:
        install.install(with_own_index((tmp_path / "nowhere").as_uri()))
    assert caught.value.code == "toolchain.download"
    first, last = caught.value.cause.splitlines()
    assert "pip is configured with" in first and "toyc==1.0+x" in first
    assert "toyc" in last and "pip" not in last
    assert any("UV_FIND_LINKS=FOLDER" in hint and "toyc==1.0+x" in hint for hint in caught.value.hints)


def test_no_index_means_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "wheels", "2.0")))
    with pytest.raises(AccelError) as caught:
        install.install(with_own_index(index(tmp_path / "own", "1.0")))
    assert len(caught.value.cause.splitlines()) == 1

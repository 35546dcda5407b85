"""Where packages come from: what pip is configured with, said in uv's words.

A company's mirror is usually set once, in pip's configuration; uv reads only its own. File places, their order and
the meaning of the options: pip's documentation, "Configuration".
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

_SOURCES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
_OPTIONS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy")


def own_sources(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether uv itself was told where packages come from, by variables or by a file of the user or the machine."""
    if any(environ.get(name) for name in (*_SOURCES, "UV_CONFIG_FILE")):
        return True
    folders = [platformdirs.user_config_path("uv"), *_site_folders("uv")]
    return any((folder / "uv.toml").is_file() for folder in folders)


def names_sources(variables: Mapping[str, str]) -> bool:
    """Whether ``variables`` say where packages come from (and not only how to get through to them)."""
    return any(name in variables for name in _SOURCES)


def without_extras(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` without what stands beside the one index: more indexes and folders."""
    return {k: v for k, v in variables.items() if k not in ("UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_STRATEGY")}


def pip_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """pip's indexes, folders of wheels, certificates and proxy as variables for uv; what is set already stays."""
    options = _pip_options(environ)
    made: dict[str, str] = {}
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        made["UV_NO_INDEX"] = "1"
    elif "index-url" in options or "extra-index-url" in options:
        made["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip does: every index is asked for the wanted version
    for option, name, between in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_INDEX", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("trusted-host", "UV_INSECURE_HOST", " "),
        ("cert", "SSL_CERT_FILE", " "),
        ("client-cert", "SSL_CLIENT_CERT", " "),
        ("proxy", "HTTPS_PROXY", " "),
        ("proxy", "HTTP_PROXY", " "),
    ):
        words = options.get(option, "").split()
        if words and not environ.get(name):
            made[name] = between.join(words)
    return made


def _pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip says what is wrong with it
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    for option in _OPTIONS:
        value = environ.get("PIP_" + option.replace("-", "_").upper())
        if value:
            found[option] = value
    return {k: v for k, v in found.items() if k in _OPTIONS}


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's files, the strongest last."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    for folder in reversed(_site_folders("pip")):
        yield folder / "pip.conf"
    yield Path("/etc/pip.conf")
    if not (named and Path(named).exists()):
        yield Path.home() / ".pip" / "pip.conf"
        yield platformdirs.user_config_path("pip") / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _site_folders(name: str) -> list[Path]:
    """Folders of the machine's configuration, the strongest first."""
    together = platformdirs.site_config_dir(name, appauthor=False, multipath=True)
    return [Path(folder) for folder in together.split(os.pathsep)]

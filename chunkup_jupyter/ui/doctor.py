"""What an upload from this machine would find, and what is missing. Sends nothing."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from .. import credentials, providers
from ..journal import Ledger, default_folder, unfinished
from . import words

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CA = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


def examine(
    schemes: Sequence[str], *, key_env: str | None = None, env: Mapping[str, str] = os.environ
) -> list[tuple[str, str]]:
    """Return (what, finding) rows. Keys are named by where they stand, never shown."""
    rows = [
        ("chunkup", f"{_version('chunkup-jupyter')}, Python {platform.python_version()}"),
        ("Notebook", _notebook()),
    ]
    for scheme in schemes:
        rows += _provider(scheme, key_env, env)
    rows += [("Proxy", _proxy(env)), ("Certificates", _certificates(env))]
    rows += [("State", _state()), ("Clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))]
    rows.append(("Sandbox", "ready" if find_spec("uvicorn") else _MORE))
    return rows


# Its widgets come from elsewhere, which Colab wants to be asked for (googlecolab/colabtools,
# google/colab/output/_widgets.py, read 2026-11); anywidget asks by itself.
_COLAB = (
    "Colab (should the panel stay empty: from google.colab import output; "
    "output.enable_custom_widget_manager())"
)
_MORE = "needs: pip install 'chunkup-jupyter[sandbox]'"


def _provider(scheme: str, key_env: str | None, env: Mapping[str, str]) -> list[tuple[str, str]]:
    try:
        kind = providers.load(f"{scheme}:")
    except Exception as error:  # somebody's plugin
        return [(scheme, words.shown(error, 200))]
    places = credentials.located(
        kind.needs, config_file=kind.config_file, env=env, key_env=key_env, service=scheme
    )
    said = []
    for need in kind.needs:
        where = places.get(need.field, "")
        if where:
            said.append(f"{need.field}: found in {where}")
        elif need.required:
            said.append(f"{need.field}: missing ({' or '.join(need.variables)})")
    return [(kind.title, "; ".join(said) or "needs nothing")]


def _proxy(env: Mapping[str, str]) -> str:
    found = []
    for name in _PROXIES:
        value = env.get(name) or env.get(name.lower())
        if value:
            # A proxy's address may carry a password: host and port are enough.
            parts = urlsplit(value if "://" in value else f"http://{value}")
            found.append(
                f"{name} → {parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}"
            )
    if none := env.get("NO_PROXY") or env.get("no_proxy"):
        found.append(f"NO_PROXY: {words.shown(none, 120)}")
    return "; ".join(found) or "none"


def _certificates(env: Mapping[str, str]) -> str:
    found = []
    for name in _CA:
        if value := env.get(name):
            missing = "" if Path(value).exists() else ", which does not exist"
            found.append(f"{name} = {words.shown(value, 200)}{missing}")
    return "; ".join(found) or "those that come with Python's HTTP library"


def _state() -> str:
    folder = default_folder()
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        # Trying is the only way to know: root may write anywhere, but not below /proc.
        tempfile.TemporaryFile(dir=there).close()
    except OSError:
        return f"{folder} cannot be written, so nothing can be resumed after a restart"
    sent = len(Ledger(folder).entries())
    return f"{folder} ({words.plural(len(unfinished(folder)), 'unfinished upload')}, {sent:,} sent)"


def _notebook() -> str:
    names = ("ipython", "ipykernel", "ipywidgets", "anywidget")
    found = [f"{name} {_version(name)}" for name in names]
    if "google.colab" in sys.modules:
        found.append(_COLAB)
    return ", ".join(found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

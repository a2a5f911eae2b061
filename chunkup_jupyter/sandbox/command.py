"""``python -m chunkup_jupyter sandbox NAME``: keep one sandbox up for other programs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import signals, units
from . import Sandbox, Store, load, names

_KEYS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "openai": (("api_key", ("OPENAI_API_KEY",)),),
    "azure-openai": (("api_key", ("AZURE_OPENAI_API_KEY",)),),
    "oss": (
        ("access_key_id", ("OSS_ACCESS_KEY_ID",)),
        ("access_key_secret", ("OSS_ACCESS_KEY_SECRET",)),
    ),
    "twelvelabs": (("api_key", ("TWELVELABS_API_KEY", "TWELVE_LABS_API_KEY", "TL_API_KEY")),),
}
_OPTIONAL_KEYS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "oss": (("security_token", ("OSS_SESSION_TOKEN",)), ("region", ("OSS_REGION",))),
}
_WATCH_EVERY = 0.5  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; return the exit status: 0, or 2 for a mistake in the options."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.handled(lambda number, frame: over.set()))
        try:
            sandbox = _make(arguments, stack)
            # Imported late, so that a mistake is told even where the server is not installed.
            from .server import serve

            pace = 0 if arguments.pace is None else _size("--pace", arguments.pace)
            served = stack.enter_context(serve(sandbox, port=arguments.port, pace=pace))
        except _Mistake as mistake:
            parser.print_usage(sys.stderr)
            _say(f"{parser.prog}: {mistake}")
            return 2
        except ImportError as error:
            wanted = "pip install 'chunkup-jupyter[sandbox]'"
            _say(f"{parser.prog}: {error.name or error} is not installed; {wanted}")
            return 1
        except (OSError, OverflowError) as error:
            _say(f"{parser.prog}: {getattr(error, 'strerror', None) or error}")
            return 1
        parent = os.getppid()
        _announce(arguments.provider, served.base_url, sandbox)
        while not over.wait(_WATCH_EVERY if arguments.watch_parent else None):
            if os.getppid() != parent:
                break
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chunkup sandbox",
        description="Serve a provider's upload protocol on this machine, until interrupted.",
        epilog="A line of JSON on stdout says where it is and with which keys. Keys are random "
        "unless --key-from-env is given. Everything uploaded is deleted at the end.",
    )
    parser.add_argument("provider", choices=names(), help="whose protocol to speak")
    parser.add_argument("--port", type=int, default=0, help="the port (default: a free one)")
    parser.add_argument("--root", type=Path, help="keep uploads below this folder")
    parser.add_argument(
        "--key-from-env",
        action="store_true",
        help="take the keys from the provider's usual environment variables",
    )
    parser.add_argument("--bucket", help="the bucket's name (oss)")
    parser.add_argument("--region", help="the region's id (oss)")
    parser.add_argument("--chunk-size", metavar="SIZE", help="what the server decides (twelvelabs)")
    parser.add_argument(
        "--pace",
        metavar="SIZE",
        help="bytes a second on each connection at most, as from a distant server",
    )
    parser.add_argument("--quota", metavar="SIZE", help="how much is stored at most")
    parser.add_argument(
        "--shrink",
        nargs="+",
        action="extend",
        default=[],
        metavar="LIMIT=VALUE",
        help="replace documented limits, so that small files cross them",
    )
    parser.add_argument(
        "--watch-parent",
        action="store_true",
        help="end when the process that started this one ends",
    )
    return parser


class _Mistake(Exception):
    """The options cannot work together."""


def _make(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Sandbox:
    kind = load(arguments.provider)
    options: dict[str, Any] = {}
    if arguments.key_from_env:
        options |= _keys(arguments.provider, os.environ)
    for field in ("bucket", "region"):
        if (value := getattr(arguments, field)) is not None:
            options[field] = value
    accepted = inspect.signature(kind).parameters
    for field in options:
        if field not in accepted:
            raise _Mistake(f"--{field}: the {arguments.provider} sandbox has none")
    options["store"] = _store(arguments.root, arguments.quota, stack)
    try:
        sandbox = kind(**options)
    except ValueError as error:
        raise _Mistake(str(error)) from None
    for entry in arguments.shrink:
        name, _, text = entry.partition("=")
        _shrink(sandbox, "--shrink", name.strip().replace("-", "_"), text)
    if arguments.chunk_size is not None:
        _shrink(sandbox, "--chunk-size", "chunk_size", arguments.chunk_size)
    return sandbox


def _keys(provider: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return constructor options from the variables that hold them. Empty ones do not count."""
    if provider not in _KEYS:
        raise _Mistake(f"--key-from-env: {provider} has no usual variables known here")
    found: dict[str, str] = {}
    for field, variables in (*_KEYS[provider], *_OPTIONAL_KEYS.get(provider, ())):
        value = next((env[name] for name in variables if env.get(name)), "")
        if value:
            found[field] = value
    for field, variables in _KEYS[provider]:
        if field not in found:
            raise _Mistake(f"--key-from-env: {' or '.join(variables)} is not set")
    return found


def _store(root: Path | None, quota: str | None, stack: contextlib.ExitStack) -> Store:
    """Return a store in a private folder of its own, deleted with everything at the end."""
    size = None if quota is None else _size("--quota", quota)
    if size == 0:
        raise _Mistake("--quota 0 has room for nothing")
    if root is not None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chunkup-sandbox-", dir=root))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return Store.on_disk(folder, size)


def _shrink(sandbox: Sandbox, option: str, name: str, text: str) -> None:
    known = [field.name for field in dataclasses.fields(sandbox.limits)]
    if name not in known:
        raise _Mistake(f"{option}: no limit is called {name!r}; there are {', '.join(known)}")
    if not text:
        raise _Mistake(f"{option} {name}: write LIMIT=VALUE")
    try:
        sandbox.shrink(**{name: _value(getattr(sandbox.limits, name), text)})
    except ValueError as error:
        raise _Mistake(f"{option}: {error}") from None


def _value(present: object, text: str) -> object:
    """Return a limit's new value, of the kind it has now. Raises ``ValueError``."""
    match present:
        case bool():
            if text.lower() not in ("true", "false"):
                raise ValueError(f"true or false, not {text}")
            return text.lower() == "true"
        case float():
            return float(text)
        case _:
            return units.parse_size(text)


def _size(option: str, text: str) -> int:
    try:
        return units.parse_size(text)
    except ValueError as error:
        raise _Mistake(f"{option}: {error}") from None


def _announce(provider: str, base_url: str, sandbox: Sandbox) -> None:
    ready = {"provider": provider, "base_url": base_url, "pid": os.getpid(), **sandbox.announce()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    _say(f"The {provider} sandbox is up; everything sent to it is deleted when it ends.")
    for line in _POINTERS.get(provider, ()):
        _say("  " + line.format(base_url=base_url, base=sandbox.base, **sandbox.announce()))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# Keys are on stdout, in the line a program reads; here are their names only.
_POINTERS: dict[str, tuple[str, ...]] = {
    "openai": ('openai.OpenAI(base_url="{base_url}", api_key=<api_key>)',),
    "azure-openai": (
        'openai.AzureOpenAI(azure_endpoint="{base}", api_key=<api_key>, api_version="2024-10-21")',
    ),
    "oss": (
        'oss2.Bucket(oss2.AuthV4(<access_key_id>, <access_key_secret>), "{base_url}", '
        '"{bucket}", region="{region}")',
        "alibabacloud_oss_v2: the same endpoint and region, and use_path_style=True",
    ),
    "twelvelabs": ('twelvelabs.TwelveLabs(base_url="{base_url}", api_key=<api_key>)',),
}

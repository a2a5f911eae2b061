"""One upload as it was asked for: everything looked up that needs no request."""

from __future__ import annotations

import dataclasses
import os
import shlex
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from . import credentials as keys
from . import plan as planning
from . import providers
from .engine import Options
from .errors import InvalidUpload
from .journal import default_folder
from .model import Provider
from .pace import START
from .plan import Plan
from .sources import Source, open_source
from .transport import Policy
from .units import parse_size

_sandboxes: dict[str, Any] = {}
_sandbox_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Order:
    """One upload as it was asked for, everything looked up that can be without a request."""

    source: Any
    dest: str
    name: str | None
    media_type: str | None
    size: int | None
    provider: Provider
    options: Options
    sandbox: bool
    state: Path | None
    ca_bundle: str | None
    spelled: Mapping[str, Any]
    refresh: Callable[[], Provider | None]
    policy: Policy
    reuse: bool = False


def destination(
    dest: str | Provider,
    *,
    sandbox: bool = False,
    key_env: str | None = None,
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Provider:
    """Return the provider a destination names, with credentials found and options parsed.

    Raises ``InvalidUpload`` and ``CredentialsMissing``.
    """
    fields = dict(fields or {})
    if isinstance(dest, Provider):
        return dataclasses.replace(dest, **fields) if fields else dest
    kind = providers.load(dest)
    declared = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in fields.items():
        if name not in declared or not declared[name].metadata.get("argument"):
            options = sorted(n for n, f in declared.items() if f.metadata.get("argument"))
            raise InvalidUpload(f"{kind.title} has no option {name!r}; it has {', '.join(options)}")
        parse = declared[name].metadata.get("parse")
        if parse is not None and isinstance(value, str):
            try:
                fields[name] = parse(value)
            except ValueError as error:
                raise InvalidUpload(f"{name}: {error}") from None
    env: Mapping[str, str] = os.environ
    if sandbox:
        # It has its own address and keys, whatever the line says of the real service's.
        env, key_env = open_sandbox(providers.scheme_of(dest)).sandbox.environment(), None
        fields = {n: v for n, v in fields.items() if not declared[n].metadata.get("address")}
    values = given() if callable(given) else dict(given or {})
    found = keys.find(
        kind.needs,
        config_file="" if sandbox else kind.config_file,
        env=env,
        key_env=key_env,
        given={**values, **{n: v for n, v in fields.items() if v is not None}},
        use_keyring=not sandbox,
        service=providers.scheme_of(dest),
    )
    return kind.from_url(dest, **{**found, **fields})


def place(
    dest: str | Provider,
    *,
    source: Any,
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None,
    fields: Mapping[str, Any],
    name: str | None = None,
    media_type: str | None = None,
    size: int | None = None,
    jobs: int | None = None,
    part_size: int | str | None = None,
    verify: str = "auto",
    wait_ready: bool | None = None,
    fresh: bool = False,
    reuse: bool = False,
    sandbox: bool = False,
    check: bool = True,
    key_env: str | None = None,
    ca_bundle: str | None = None,
    state: Path | str | None = "default",
    policy: Policy | None = None,
) -> Order:
    """Look everything up that needs no request. Raises what ``start`` raises."""
    if verify not in ("auto", "none"):
        raise InvalidUpload(f"verify is 'auto' or 'none', not {verify!r}")
    if jobs is not None and not 1 <= jobs <= 64:
        raise InvalidUpload(f"jobs is a number from 1 to 64, not {jobs}")
    try:
        asked = None if part_size is None else parse_size(part_size)
    except ValueError as error:
        raise InvalidUpload(str(error)) from None
    folder = default_folder() if state == "default" else None if state is None else Path(state)

    def look_up() -> Provider:
        return destination(dest, sandbox=sandbox, key_env=key_env, given=given, fields=fields)

    def refresh() -> Provider | None:
        if isinstance(dest, Provider):
            return None
        fresh_one = look_up()
        return None if fresh_one == provider else fresh_one

    provider = look_up()
    waits = provider.waits_ready if wait_ready is None else wait_ready
    return Order(
        source=source,
        dest=dest if isinstance(dest, str) else provider.url,
        name=name,
        media_type=media_type,
        size=size,
        provider=provider,
        options=Options(
            jobs=jobs,
            part_size=asked,
            verify=verify == "auto",
            wait_ready=waits,
            fresh=fresh,
            check=check,
        ),
        sandbox=sandbox,
        state=folder,
        ca_bundle=ca_bundle,
        spelled={
            "name": name,
            "media_type": media_type,
            "part_size": part_size,
            "jobs": jobs,
            "verify": verify if verify != "auto" else None,
            "wait_ready": wait_ready,
            "sandbox": sandbox or None,
            "reuse": reuse or None,
            "check": None if check else False,
            "key_env": key_env,
            **fields,
        },
        refresh=refresh,
        policy=policy or Policy(),
        reuse=reuse,
    )


def open_for(order: Order) -> Source:
    return open_source(order.source, name=order.name, media_type=order.media_type, size=order.size)


def plan_for(order: Order, source: Source) -> Plan:
    """Check what can be checked without a request, and say what would be done."""
    provider, file = order.provider.for_file(source.info), source.info
    rules, asked = provider.rules, order.options.part_size
    warnings = (*planning.check_size(file, rules), *provider.check(file))
    if asked is not None:
        planning.check_part_size(asked, file.size, rules)
    notes = []
    if rules.server_decides:
        notes.append(f"{provider.title} decides the part size when the session opens")
    if order.options.verify and rules.digest:
        notes.append(f"the {rules.digest} of the whole file is computed beside the upload")
    return Plan(
        file=file,
        target=provider.url,
        part_size=planning.choose_part_size(file.size, asked or planning.PREFERRED_PART, rules),
        jobs=1 if rules.in_order else order.options.jobs or START,
        in_order=rules.in_order,
        life=rules.life,
        notes=tuple(notes),
        warnings=tuple(warnings),
        sandbox=order.sandbox,
    )


def words_of(order: Order) -> list[str]:
    """Return destination and options as words of the magic's line."""
    words = [shlex.quote(order.dest)]
    declared = {field.name: field.metadata for field in dataclasses.fields(order.provider)}
    for name, value in order.spelled.items():
        about: Mapping[str, Any] = declared.get(name, {})
        if value is None or (about and not about.get("option")):
            continue  # unsaid, or nothing that a line can say
        if value is False and about.get("toggle"):
            continue
        flag = about.get("flag") or "--" + name.replace("_", "-")
        if value is False:
            words.append(f"--no-{flag[2:]}")
        elif value is True:
            words.append(flag)
        elif isinstance(value, Mapping) and not about["repeat"]:
            words.append(f"{flag} {shlex.quote(urlencode(value, quote_via=quote))}")
        elif isinstance(value, Mapping):
            words.extend(f"{flag} {shlex.quote(f'{k}={v}')}" for k, v in value.items())
        else:
            words.append(f"{flag} {shlex.quote(str(value))}")
    return words


def open_sandbox(scheme: str, **limits: Any) -> Any:
    """Return the server of that provider on this machine, started at its first use.

    It is the one that uploads with ``sandbox`` go to. ``limits`` shrinks documented
    limits by name, as in ``open_sandbox("twelvelabs", chunk_size="64K")``; what came
    can be read back with ``download(id)``.

    Raises ``InvalidUpload`` when there is no such sandbox or limit.
    """
    with _sandbox_lock:
        if scheme not in _sandboxes:
            try:
                from .sandbox import Store, load
                from .sandbox.server import serve
            except ImportError as error:
                raise InvalidUpload(
                    "the sandbox needs more packages: pip install 'chunkup-jupyter[sandbox]'"
                ) from error
            try:
                kind = load(scheme)
            except KeyError:
                raise InvalidUpload(f"{scheme} has no sandbox") from None
            _sandboxes[scheme] = serve(kind(store=Store.on_disk()))
        served = _sandboxes[scheme]
    try:
        sizes = {n: parse_size(v) if isinstance(v, str) else v for n, v in limits.items()}
        served.sandbox.shrink(**sizes)
    except (TypeError, ValueError) as error:
        raise InvalidUpload(f"{scheme} has no such limit: {error}") from None
    return served

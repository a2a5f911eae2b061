"""One upload as it was asked for: everything looked up that needs no request."""

from __future__ import annotations

import atexit
import dataclasses
import difflib
import functools
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from .. import credentials as keys
from .. import plan as planning
from .. import providers
from ..engine import Options
from ..engine.pace import START
from ..errors import CredentialsMissing, InvalidUpload
from ..journal import Key, default_folder
from ..model import Provider
from ..plan import Plan
from ..sources import Source, open_source
from ..sources.urls import is_remote
from ..transport import Policy
from ..units import parse_size, written
from ..wire import bandwidth

_sandboxes: dict[str, Any] = {}
_sandbox_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Asked:
    """What ``start`` was asked for, in its own words, which are explained there.

    ``fields`` are the provider's own. Keys are not among them: they are never kept, only
    whether some were given, in ``ask_key``.

    Raises ``InvalidUpload`` for what no provider could take.
    """

    dest: str | Provider
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    part_size: int | str | None = None
    jobs: int | None = None
    verify: str = "auto"
    wait_ready: bool | None = None
    sandbox: bool = False
    reuse: bool = False
    fresh: bool = False
    check: bool = True
    key_env: str | None = None
    ask_key: bool = False
    ca_bundle: str | None = None
    state: Path | str | None = "default"
    policy: Policy | None = None

    def __post_init__(self) -> None:
        if self.verify not in ("auto", "none"):
            raise InvalidUpload(f"verify is 'auto' or 'none', not {self.verify!r}")
        if self.jobs is not None:
            check_number("jobs", self.jobs)

    def options(self, provider: Provider) -> Options:
        """Return what the engine is told. Raises ``InvalidUpload``."""
        try:
            part_size = None if self.part_size is None else parse_size(self.part_size)
        except ValueError as error:
            raise InvalidUpload(str(error)) from None
        return Options(
            jobs=self.jobs,
            part_size=part_size,
            verify=self.verify == "auto",
            wait_ready=provider.waits_ready if self.wait_ready is None else self.wait_ready,
            fresh=self.fresh,
            check=self.check,
        )

    def folder(self) -> Path | None:
        """Return where the journal lives, None for memory only."""
        if self.state == "default":
            return _sandbox_state() if self.sandbox else default_folder()
        return None if self.state is None else Path(self.state)


@dataclasses.dataclass(frozen=True)
class Order:
    """One upload as it was asked for, everything looked up that can be without a request.

    ``look_up`` finds destination and keys once more, as they are by then.
    """

    source: Any
    asked: Asked
    provider: Provider
    options: Options
    state: Path | None
    look_up: Callable[[], Provider]

    @property
    def sandbox(self) -> bool:
        """Whether it goes to a server on this machine."""
        return self.asked.sandbox

    @property
    def by_line(self) -> bool:
        """Whether a line finds its journal: none can name a folder for it."""
        return self.state == dataclasses.replace(self.asked, state="default").folder()

    @property
    def listed(self) -> bool:
        """Whether the verbs find its journal."""
        return self.state == default_folder()

    def refresh(self) -> Provider | None:
        """Return the provider with fresher keys, None when there are none."""
        if isinstance(self.asked.dest, Provider):
            return None
        fresh = self.look_up()
        return None if fresh == self.provider else fresh


def check_number(name: str, value: Any) -> None:
    """Refuse what is no number from 1 to 64. Raises ``InvalidUpload``."""
    if not isinstance(value, Integral) or not 1 <= int(value) <= 64:
        raise InvalidUpload(f"{name} is a number from 1 to 64, not {value!r}")


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
            raise InvalidUpload(f"{kind.title} has no option {name!r}; {_instead(name, kind)}")
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
    source: Any,
    dest: str | Provider,
    *,
    credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    **options: Any,
) -> Order:
    """Look everything up that needs no request. Takes and raises what ``start`` does."""
    known = {name: options.pop(name) for name in _GENERAL & options.keys()}
    given = credentials is not None and not known.get("sandbox")
    asked = Asked(dest, options, ask_key=given, **known)

    def look_up() -> Provider:
        return destination(
            dest, sandbox=asked.sandbox, key_env=asked.key_env, given=credentials, fields=options
        )

    try:
        provider = look_up()
    except CredentialsMissing:
        # Whoever mistyped the file's name had better hear of that first.
        if isinstance(source, (str, os.PathLike)) and not is_remote(source):
            open_source(source).close()
        raise
    return Order(source, asked, provider, asked.options(provider), asked.folder(), look_up)


_GENERAL = {field.name for field in dataclasses.fields(Asked)} - {"dest", "fields", "ask_key"}
_ELSEWHERE = {
    "bwlimit": "set_bandwidth limits all uploads together",
    **dict.fromkeys(
        ("files", "recursive", "include", "exclude"), "it goes with start_many and upload_many"
    ),
}


def _instead(name: str, kind: type[Provider]) -> str:
    """Return what to say in the place of an option that does not exist."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    if any(need.secret and need.field == name for need in kind.needs):
        return f"a key goes in credentials={{{name!r}: …}}, or in a variable that key_env names"
    options = sorted(n for n, f in kind.__dataclass_fields__.items() if f.metadata.get("argument"))
    close = difflib.get_close_matches(name, {*options, *_GENERAL, "listeners"}, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}it has {', '.join(options)}"


def open_for(order: Order) -> Source:
    """Open what is to be uploaded. Raises ``SourceError`` and ``InvalidUpload``."""
    asked = order.asked
    return open_source(order.source, name=asked.name, media_type=asked.media_type, size=asked.size)


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
        checks=planning.limits(rules),
        notes=tuple(notes),
        warnings=tuple(warnings),
        sandbox=order.sandbox,
    )


def key_of(provider: Provider, source: Source) -> Key:
    """Return what the journal of this upload is found by."""
    return Key(provider.url, provider.account, source.identity)


def terms_of(order: Order, provider: Provider) -> dict[str, Any]:
    """Return what is settled when a session opens: one with other terms is not resumed."""
    media_type = order.asked.media_type
    return provider.terms | ({"media_type": media_type} if media_type else {})


def words_of(order: Order) -> list[str]:
    """Return destination and options as words of the magic's line."""
    asked, provider = order.asked, order.provider
    words = [shlex.quote(asked.dest if isinstance(asked.dest, str) else provider.url)]
    declared = {field.name: field.metadata for field in dataclasses.fields(provider)}
    said = {
        name: getattr(asked, name)
        for name, default in _SAYABLE.items()
        if getattr(asked, name) != default
    }
    for name, value in {**said, **asked.fields}.items():
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
    # Whoever limited the line wants it limited when the upload goes on.
    limit = bandwidth.everybody.limit
    return words + ([f"--bwlimit {written(limit)}"] if limit else [])


# What a line can say of any upload, and what it need not say.
_SAYABLE = {
    field.name: field.default
    for field in dataclasses.fields(Asked)
    if field.name not in ("dest", "fields", "size", "fresh", "ca_bundle", "state", "policy")
}


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
                from ..sandbox import Store, load
                from ..sandbox.server import serve
            except ImportError as error:
                raise InvalidUpload(
                    "the sandbox needs more packages: pip install 'chunkup-jupyter[sandbox]'"
                ) from error
            try:
                kind = load(scheme)
            except KeyError:
                raise InvalidUpload(f"{scheme} has no sandbox") from None
            store = Store.on_disk()
            _at_exit(store.close)
            _sandboxes[scheme] = serve(kind(store=store))
        served = _sandboxes[scheme]
    try:
        sizes = {n: parse_size(v) if isinstance(v, str) else v for n, v in limits.items()}
        served.sandbox.shrink(**sizes)
    except TypeError as error:
        raise InvalidUpload(f"{scheme} has no such limit: {error}") from None
    except ValueError as error:
        raise InvalidUpload(f"{scheme}'s sandbox: {error}") from None
    return served


@functools.cache
def _sandbox_state() -> Path:
    """Return where the journals of sandbox uploads are: nobody can go on with them later."""
    folder = tempfile.mkdtemp(prefix="chunkup-sandbox-state-")
    _at_exit(partial(shutil.rmtree, folder, ignore_errors=True))
    return Path(folder)


def _at_exit(call: Callable[[], object]) -> None:
    """Call this when the process ends; a forked child that ends is another."""
    process = os.getpid()
    atexit.register(lambda: os.getpid() == process and call())

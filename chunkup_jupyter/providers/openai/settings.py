"""What OpenAI and Azure OpenAI are told alike: purpose, extras, address; checked at once."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from ...answers import clean
from ...errors import InsecureConnection, InvalidUpload
from ...model import ARGUMENT, FileInfo, Provider, option
from ...secrets import Secret
from ...units import parse_duration
from ...wire import is_loopback, shown

# FilePurpose in openai 3.52, read 2026-11. The API's own description of /uploads
# (2026-08) lists only the first four, so any text is passed on for the server to decide.
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")

EXPIRY = range(3600, 2592000 + 1)  # seconds a file may live; API reference, read 2026-08

NO_KEY = Secret("")

# Credentials and identity have fields of their own; the rest frames the message.
_NOT_EXTRA = re.compile(
    r"authorization|(x-)?api-key|proxy-authorization|cookie|openai-(organization|project)"
    r"|host|connection|(content|accept)-(length|type|encoding)|transfer-encoding|expect|te"
    r"|trailer|upgrade",
    re.IGNORECASE,
)


def _expiry(text: str | int) -> int:
    seconds = parse_duration(text)
    if seconds not in EXPIRY:
        raise ValueError(f"a file expires after 1 hour at least and 30 days at most, not {text!r}")
    return seconds


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(Provider):
    """A destination of either kind, without its verbs."""

    scheme: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = PURPOSES
    """What may stand after the colon, for completion and the panel."""

    purpose: str = option("", help="what the file is for, instead of the word after the colon")
    expires_after: int | None = option(
        None,
        help="delete the file after this time (1h to 30d)",
        metavar="TIME",
        parse=_expiry,
        settled=True,
    )
    allow_insecure: bool = option(
        False, toggle=True, help="allow plain http to a host that is not this machine"
    )
    md5: str | None = field(default=None, metadata=ARGUMENT)
    """The file's MD5 in hex as the caller knows it; completing other bytes is refused."""
    timeout: float | None = field(default=None, metadata=ARGUMENT)
    """Seconds an answer may take after the last byte was sent; None for the usual ones."""
    extra_headers: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=ARGUMENT)
    """Sent with every request; credentials and framing cannot be replaced."""
    extra_query: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata=ARGUMENT)
    """Sent with every request."""
    extra_body: Mapping[str, Any] = field(
        default_factory=dict, hash=False, metadata={**ARGUMENT, "settled": True}
    )
    """More keys for the JSON that creates the upload."""

    def __post_init__(self) -> None:
        if not self.purpose:
            raise InvalidUpload(
                f"{self.title} needs to know what the file is for: {self.scheme}:PURPOSE, "
                f"where PURPOSE is one of {', '.join(PURPOSES)}"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.purpose):
            raise InvalidUpload(f"{self.purpose!r} is no purpose; there are {', '.join(PURPOSES)}")
        if self.expires_after is not None:
            try:
                self._set("expires_after", _expiry(self.expires_after))
            except ValueError as error:
                raise InvalidUpload(str(error)) from None
        if self.md5 is not None:
            self._set("md5", self.md5.lower())
            if not re.fullmatch(r"[0-9a-f]{32}", self.md5):
                raise InvalidUpload("md5 is written as 32 hex digits")
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise InvalidUpload("timeout is a positive number of seconds")
        self._check_extras()
        self._check_base()
        for need in self.needs:
            if need.secret:
                self._set(need.field, _as_secret(getattr(self, need.field), need.variables[0]))

    def __repr__(self) -> str:
        return f"<{self.url} at {shown(self._base)}>"

    @classmethod
    def from_url(cls, url: str, **given: Any) -> Self:
        """Return the destination ``SCHEME:PURPOSE``; a ``purpose`` given as a field wins.

        Raises:
            InvalidUpload: no purpose, or a field that does not exist.
            InsecureConnection: plain http to another machine.
        """
        known = {known.name for known in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise InvalidUpload(
                f"{cls.title} has no {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        values = {name: value for name, value in given.items() if value not in (None, "")}
        if not values.get("purpose"):
            values["purpose"] = url.partition(":")[2].strip("/")
        return cls(**values)

    @property
    def url(self) -> str:
        """The destination as it is written: ``openai:fine-tune``."""
        return f"{self.scheme}:{self.purpose}"

    @property
    def kind(self) -> str:
        """The pre-flight checks of the purpose; Azure demands the same of its files."""
        return f"openai:{self.purpose}"

    @property
    def states_digest(self) -> bool:
        """Whether ``md5`` was given: it is compared with ours, whatever else is checked."""
        return self.md5 is not None

    def check(self, file: FileInfo) -> Sequence[str]:
        """Warn of a purpose the SDK does not know; refuse a name that cannot be sent."""
        check_name(file)
        if self.purpose in PURPOSES:
            return ()
        return (
            f"{self.purpose!r} is none of the purposes known here ({', '.join(PURPOSES)}); "
            f"it is passed on, and {self.title} decides",
        )

    @property
    @abstractmethod
    def _base(self) -> str:
        """The address before ``/uploads``, without a slash at its end."""

    @property
    def _query(self) -> Mapping[str, str]:
        return {}

    @abstractmethod
    def _auth(self) -> dict[str, str]: ...

    _address_hint: ClassVar[str]

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_base(self) -> None:
        base = self._base
        try:
            parts = urlsplit(base)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        # No user, query or fragment: it is shown, and paths are added to it.
        if not fine or not re.fullmatch(r"[!-~]+", base) or re.search(r"[@?#\\]", base):
            where = re.split(r"[?#]", base.rpartition("@")[2])[0]
            raise InvalidUpload(
                f"{clean(where, 100)!r} is no address for {self.title}; write https://HOST/PATH"
            )
        if parts.scheme == "http" and not is_loopback(base) and not self.allow_insecure:
            raise InsecureConnection(
                f"{shown(base)} is plain http: the key and the file could be read on the way. "
                "Write https, or allow it with --allow-insecure"
            )

    def _check_extras(self) -> None:
        for name, value in self.extra_headers.items():
            if _NOT_EXTRA.fullmatch(name):
                raise InvalidUpload(f"extra_headers may not replace {name}")
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not (
                isinstance(value, str) and re.fullmatch(r"[\t -~\x80-\xff]*", value)
            ):
                raise InvalidUpload(f"extra_headers: {name!r} cannot be sent as a header")
        for name, value in self.extra_query.items():
            if name in self._query or _NOT_EXTRA.fullmatch(name):
                raise InvalidUpload(f"extra_query may not replace {name}")
            if not isinstance(value, str | int | float):
                raise InvalidUpload(f"extra_query: {name!r} is neither text nor a number")
        if fixed := {"bytes", "filename", "purpose"} & set(self.extra_body):
            raise InvalidUpload(f"extra_body may not replace {', '.join(sorted(fixed))}")


def _as_secret(value: object, variable: str) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(str(value))
    text = secret.reveal().strip()  # a line break from a file or a paste is no part of a key
    if not re.fullmatch(r"[!-~]*", text):
        raise InvalidUpload(f"the key in {variable} holds characters that no key has")
    return secret if text == secret.reveal() else Secret(text)


def check_name(file: FileInfo) -> None:
    """Refuse a name that cannot be written as JSON, or that no file can have."""
    try:
        file.name.encode()
    except UnicodeEncodeError:
        raise InvalidUpload(
            "the file's name is not valid Unicode; give another by --name"
        ) from None
    if not file.name or "\x00" in file.name:
        raise InvalidUpload("the file needs a name without NUL; give one by --name")

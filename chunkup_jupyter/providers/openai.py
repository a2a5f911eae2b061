"""OpenAI's Uploads API, and Azure OpenAI, which speaks the same.

The API has four calls (create, add a part, complete, cancel) and no way to ask about
an upload: which parts are held is known from the receipts alone, and what became of a
completion whose answer was lost is looked for in the list of files.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from ..answers import clean, expect, json_of, problem, request_id
from ..errors import (
    AnswerLost,
    AuthError,
    CredentialsMissing,
    InsecureConnection,
    IntegrityError,
    InvalidUpload,
    OutcomeUnknown,
    ProtocolError,
    ProviderError,
    Refused,
    SessionLost,
)
from ..model import (
    Body,
    FileInfo,
    Flow,
    NotYet,
    Part,
    PartReceipt,
    Provider,
    Result,
    Rules,
    Session,
    option,
)
from ..plan import check_size
from ..secrets import Need, Secret
from ..units import parse_duration
from ..wire import Request, Response, encoded, is_loopback, json_request, shown

# FilePurpose in openai 3.52, read 2026-11. The API's own description of /uploads
# (2026-08) lists only the first four, so any text is passed on for the server to decide.
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")

RULES = Rules(
    min_size=1,  # not documented; a part of no bytes makes no sense to the API
    max_size=8 << 30,  # "8 GB", Create upload, API reference, read 2026-08
    advised_max=8 * 10**9,
    advice="OpenAI takes up to 8 GB and does not say whether that means 8 GiB; "
    "this file is in between and may be refused at the end",
    max_part=64 << 20,  # "64 MB", Add upload part; its own SDK (3.52) sends 64 MiB parts
    max_parts=1000,  # not documented; the SDK never needs more than 128
    life=3600,  # "one hour", Create upload, API reference, read 2026-08
    digest="md5",
    # The SDK (3.52) retries 408, 409 ("lock timeout", its comment says) and 429, and
    # everything from 500 on; these are the ones of those that pass by waiting.
    retry_on=frozenset({408, 409, 429, 500, 502, 503, 504, *range(520, 525), 529}),
    fatal_codes=frozenset(
        {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
    ),
)
AZURE_RULES = Rules(
    min_size=1,
    max_size=9 << 30,  # "9 GB", Upload File - Add Part, Azure OpenAI REST 2024-10-21
    advised_max=9 * 10**9,
    advice="Azure OpenAI takes up to 9 GB and does not say whether that means 9 GiB; "
    "this file is in between and may be refused at the end",
    max_part=RULES.max_part,
    max_parts=RULES.max_parts,
    life=7200,  # "two hours", Upload File - Start, 2024-08-01-preview
    digest="md5",
    retry_on=RULES.retry_on,
    fatal_codes=RULES.fatal_codes,
)

EXPIRY = range(3600, 2592000 + 1)  # seconds a file may live; API reference, read 2026-08

_NO_KEY = Secret("")
_COMPLETIONS = 6  # how often completion is asked for before its outcome is unknown
_PAGES = 20  # of 100 files: how far back a finished file is looked for

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
class _Uploads(Provider):
    """What OpenAI and Azure OpenAI share: everything but addresses and keys."""

    scheme: ClassVar[str]

    rules: Rules = RULES
    purpose: str = option("", help="what the file is for, instead of the word after the colon")
    expires_after: int | None = option(
        None,
        help="delete the file after this time (1h to 30d)",
        metavar="TIME",
        parse=_expiry,
    )
    allow_insecure: bool = option(
        False, toggle=True, help="allow plain http to a host that is not this machine"
    )
    md5: str | None = None
    """The file's MD5 in hex as the caller knows it; completing other bytes is refused."""
    timeout: float | None = None
    """Seconds an answer may take after the last byte was sent; None for the usual ones."""
    extra_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Sent with every request; credentials and framing cannot be replaced."""
    extra_query: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Sent with every request."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
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

    # -- where

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

    def check(self, file: FileInfo) -> Sequence[str]:
        """Warn of a purpose the SDK does not know; refuse a name that cannot be sent."""
        _check_name(file)
        if self.purpose in PURPOSES:
            return ()
        return (
            f"{self.purpose!r} is none of the purposes known here ({', '.join(PURPOSES)}); "
            f"it is passed on, and {self.title} decides",
        )

    # -- verbs

    def create(self, file: FileInfo, part_size: int) -> Flow[Session]:
        """Open an upload for exactly ``file.size`` bytes."""
        check_size(file, self.rules)
        _check_name(file)
        body: dict[str, Any] = {
            "bytes": file.size,
            "filename": file.name,
            "mime_type": file.media_type,
            "purpose": self.purpose,
        }
        if self.expires_after is not None:
            body["expires_after"] = {"anchor": "created_at", "seconds": self.expires_after}
        doing = f"opening an upload at {self.title}"
        response = yield from self._ask(self._json("/uploads", {**body, **self.extra_body}))
        if response.status == 404:
            _, message = problem(response)
            raise _error(
                Refused,
                response,
                f"{doing}: {response.host} answered 404: {message or 'not found'}. There are no "
                f"uploads at {shown(self._base)}; {self._address_hint}",
            )
        upload = json_of(self._expect(response, doing))
        size = upload.get("bytes", file.size)
        if size != file.size or upload.get("status", "pending") != "pending":
            raise _error(
                ProtocolError,
                response,
                f"{doing}: {response.host} opened one of {clean(size, 40)} bytes that is "
                f"{clean(upload.get('status'), 40)}, not one of {file.size:,} bytes",
            )
        created = _number(upload.get("created_at"), response, "created_at")
        expires = upload.get("expires_at")
        if expires is None:
            expires = created + int(self.rules.life or 0)
        end = _number(expires, response, "expires_at")
        if end <= created:
            raise _error(ProtocolError, response, f"{doing}: it expires before it was created")
        return Session(
            upload_id=_identifier(upload.get("id"), response, "upload"),
            file=file,
            part_size=part_size,
            extra={"created_at": str(created)},
            expires_at=float(end),
        )

    def put_part(self, session: Session, part: Part, body: Body) -> Flow[PartReceipt]:
        """Send one part as a form of one file field, streamed.

        A part whose answer was lost is stored twice by sending it again; only the id
        of the last answer is completed.
        """
        # Cannot stand in the file by accident or on purpose: the server chose the
        # upload's id after the file was written. The same again when sent again.
        seed = f"{session.upload_id}/{part.number}".encode()
        boundary = "chunkup-" + hashlib.sha256(seed).hexdigest()[:40]
        prefix = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="data"; filename="part"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"  # Azure refuses a part without it
        )
        request = Request(
            "POST",
            self._address(f"/uploads/{encoded(session.upload_id)}/parts"),
            {**self._headers(), "Content-Type": f"multipart/form-data; boundary={boundary}"},
            (prefix.encode(), body, f"\r\n--{boundary}--\r\n".encode()),
        )
        response = yield from self._ask(request)
        doing = f"part {part.number}"
        if reason := self._gone(response, session):
            raise _error(SessionLost, response, f"{doing}: {reason}; it has to begin anew")
        if response.status == 413:
            raise _error(
                Refused,
                response,
                f"{doing}: {response.host} answered 413, {part.size:,} bytes are too many; "
                "begin anew with a smaller --part-size",
            )
        answer = json_of(self._expect(response, doing))
        if answer.get("upload_id", session.upload_id) != session.upload_id:
            raise _error(ProtocolError, response, f"{doing}: stored in another upload")
        return PartReceipt(part.number, part.size, _identifier(answer.get("id"), response, "part"))

    def complete(
        self, session: Session, receipts: Sequence[PartReceipt], digest: str | None = None
    ) -> Flow[Result | NotYet]:
        """Put the parts together; the server compares the MD5 and the size.

        Raises:
            IntegrityError: the MD5 differs, here or there, or the file's size does.
            SessionLost: the upload is gone, or its bytes were counted wrongly.
            OutcomeUnknown: the answer was lost, and the file is not found.
        """
        if self.md5 and digest and self.md5 != digest:
            raise IntegrityError(
                f"{session.file.name} has the MD5 {digest}, not {self.md5} as stated; "
                "nothing was completed",
                final=True,
            )
        ids = [receipt.token for receipt in receipts]
        if not all(ids) or len(set(ids)) != len(ids):
            raise ProtocolError(f"{self.title} gave the same id to two parts")
        digest = digest or self.md5
        request = self._json(
            f"/uploads/{encoded(session.upload_id)}/complete",
            {"part_ids": ids, **({"md5": digest} if digest else {})},
            once=True,
        )
        lost: Exception | None = None
        for _ in range(_COMPLETIONS):
            try:
                response = yield from self._ask(request)
            except AnswerLost as error:
                known, lost = lost is not None, error
                if not known:
                    continue  # once more: "is completed" is an answer too
            else:
                if not 200 <= response.status < 300:
                    return (yield from self._refused(session, response, digest, lost))
                upload = _object(response)
                if isinstance(made := upload.get("file"), dict):
                    return self._result(session, upload, made, digest, response)
                lost = _error(ProtocolError, response, f"{response.host} named no file")
            found = yield from self._find(session, digest)
            if found is not None:
                return found
        raise self._unknown(session) from lost

    def abort(self, session: Session) -> Flow[None]:
        """Cancel the upload; one that is gone, cancelled or completed is left alone."""
        path = f"/uploads/{encoded(session.upload_id)}/cancel"
        response = yield from self._ask(self._request("POST", path))
        if response.status not in (400, 404, 410):
            self._expect(response, "cancelling the upload")

    def delete(self, result: Result) -> Flow[None]:
        """Delete the file; one that is gone already is fine."""
        response = yield from self._ask(self._request("DELETE", f"/files/{encoded(result.id)}"))
        if response.status != 404:
            self._expect(response, "deleting the file")

    # -- words

    def next_cell(self, result: Result) -> str:
        """Return a cell that uses the file with the official SDK."""
        use = _USES.get(self.purpose, 'client.files.retrieve("{id}")')
        return f"{self._client_code()}\n{use}".replace("{id}", result.id)

    # -- addresses and keys

    @property
    @abstractmethod
    def _base(self) -> str:
        """The address before ``/uploads``, without a slash at its end."""

    @property
    def _query(self) -> Mapping[str, str]:
        return {}

    @abstractmethod
    def _auth(self) -> dict[str, str]: ...

    @abstractmethod
    def _client_code(self) -> str: ...

    _address_hint: ClassVar[str]

    def _headers(self) -> dict[str, str]:
        # In one spelling, so that none goes out twice.
        extra = {name.title(): value for name, value in self.extra_headers.items()}
        return {**extra, **self._auth()}

    def _address(self, path: str, query: Mapping[str, str] | None = None) -> str:
        extra = {name: str(value) for name, value in self.extra_query.items()}
        pairs = {**extra, **(query or {}), **self._query}
        text = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs.items())
        return self._base + path + (f"?{text}" if text else "")

    def _request(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Request:
        return Request(method, self._address(path, query), self._headers())

    def _json(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> Request:
        return json_request("POST", self._address(path), body, self._headers(), once=once)

    def _expect(self, response: Response, doing: str) -> Response:
        return expect(response, doing=doing)

    # -- answers

    def _ask(self, request: Request) -> Flow[Response]:
        """Return the answer, without the key that OpenAI's refusals repeat in part."""
        response = yield request
        if response.status < 400:
            return response
        content = re.sub(rb"\bsk-[\w*.-]+", b"***", response.content)
        for need in self.needs:
            if need.secret and (secret := getattr(self, need.field)):
                content = content.replace(secret.reveal().encode(), b"***")
        return replace(response, content=content)

    def _gone(self, response: Response, session: Session) -> str:
        """Say how the server no longer knows the upload, "" when it does."""
        name = f"upload {session.upload_id[:12]}…"
        if response.status in (404, 410):
            return f"{self.title} does not know {name}"
        if response.status not in (400, 422):
            return ""
        if found := re.search(r"\b(expired|cancell?ed|completed)\b", _words(response)):
            return f"{self.title} says that {name} is {found[1]}"
        date = email.utils.parsedate_tz(response.headers.get("date", ""))
        if date and session.expires_at and email.utils.mktime_tz(date) >= session.expires_at:
            return f"{name} has expired at {self.title}"
        return ""

    def _refused(
        self, session: Session, response: Response, digest: str | None, lost: Exception | None
    ) -> Flow[Result]:
        """Say what a refused completion means; raises unless the file is found after all."""
        words = _words(response) if response.status in (400, 422) else ""
        _, message = problem(response)
        said = f"{response.host} answered {response.status}: {message}"
        if re.search(r"\bmd5\b|checksum|\bdigest\b|\bhash\b", words):
            raise IntegrityError(
                f"{self.title} holds other bytes than were sent, and cannot say in which part "
                f"({said}); the whole file has to be sent again"
            ) from lost
        gone = self._gone(response, session)
        certain = re.search(r"\b(expired|cancell?ed)\b", words)
        if re.search(r"\bbytes?\b|\bsizes?\b|\blength\b", words) and not certain:
            # Parts that no list names may be counted by some servers; which ones is
            # documented nowhere. Only a new upload gets rid of them.
            yield from self.abort(session)
            raise _error(
                SessionLost,
                response,
                f"completing: {said}. A part whose answer was lost is held twice there, and "
                f"{self.title} seems to count both; the upload has to begin anew",
            )
        completed = "completed" in words
        if lost is not None or completed:
            found = None if certain else (yield from self._find(session, digest))
            if found is not None:
                return found
            if not certain and (response.status in (400, 404, 410, 422)):
                raise self._unknown(session, said) from lost
        if gone or re.search(r"\bparts?", words):
            reason = gone or f"{self.title} does not know its parts any more ({said})"
            raise _error(SessionLost, response, f"completing: {reason}; it has to begin anew")
        self._expect(response, "completing the upload")
        raise _error(ProtocolError, response, f"completing: {said}")

    def _find(self, session: Session, digest: str | None) -> Flow[Result | None]:
        """Look for the one file that this upload can have made, None when there is none.

        Raises:
            OutcomeUnknown: several files could be it.
        """
        matches: dict[str, Mapping[str, Any]] = {}
        query = {"purpose": self.purpose, "order": "desc", "limit": "100"}
        last = None
        for _ in range(_PAGES):
            last = response = yield from self._ask(self._request("GET", "/files", query))
            page = _object(response) if response.status == 200 else {}
            items = page.get("data")
            listed = (
                [item for item in items if isinstance(item, dict)]
                if isinstance(items, list)
                else []
            )
            matches |= {str(item.get("id")): item for item in listed if self._made(item, session)}
            after = listed[-1].get("id") if listed else None
            old = not any(_since(item, session) for item in listed)
            if not page.get("has_more") or old or not _is_id(after) or after == query.get("after"):
                break
            query = {**query, "after": str(after)}
        if len(matches) > 1:
            raise self._unknown(session, f"any of these may be it: {', '.join(sorted(matches))}")
        for made in matches.values():
            assert last is not None
            upload = {"id": session.upload_id, "object": "upload", "file": made}
            return self._result(session, upload, made, digest, last)
        return None

    def _made(self, item: Mapping[str, Any], session: Session) -> bool:
        return (
            item.get("filename") == session.file.name
            and item.get("bytes") == session.file.size
            and item.get("purpose", self.purpose) == self.purpose
            and _since(item, session)
            and _is_id(item.get("id"))
        )

    def _result(
        self,
        session: Session,
        upload: Mapping[str, Any],
        made: Mapping[str, Any],
        digest: str | None,
        response: Response,
    ) -> Result:
        file_id = _identifier(made.get("id"), response, "file")
        if made.get("bytes") != session.file.size:
            raise IntegrityError(
                f"{response.host} made {file_id} of {clean(made.get('bytes'), 40)} bytes from "
                f"{session.file.size:,} bytes; do not use it"
            )
        expires = made.get("expires_at")
        verified = [f"size, as {self.title} counts it"]
        if digest:
            verified.append(f"MD5 {digest}, given to {self.title} to compare")
        return Result(
            id=file_id,
            url=shown(f"{self._base}/files/{encoded(file_id)}"),
            size=session.file.size,
            raw=dict(upload),
            verified=tuple(verified),
            expires_at=None if expires is None else float(_number(expires, response, "expires_at")),
        )

    def _unknown(self, session: Session, said: str = "") -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.title} may have completed upload {session.upload_id[:12]}…, but its answer was "
            f"lost{f' ({said})' if said else ''}, and no single file named "
            f"{clean(session.file.name, 80)} of {session.file.size:,} bytes tells. Look at the "
            "list of files; if it is not there, upload again with --fresh"
        )

    # -- what was given

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


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenAI(_Uploads):
    """Files at OpenAI, or at a server that offers the same API."""

    title: ClassVar[str] = "OpenAI"
    scheme: ClassVar[str] = "openai"
    form: ClassVar[str] = "openai:PURPOSE"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("OPENAI_API_KEY",)),
        Need("base_url", ("OPENAI_BASE_URL",), secret=False, required=False),
        Need("organization", ("OPENAI_ORG_ID",), secret=False, required=False),
        Need("project", ("OPENAI_PROJECT_ID",), secret=False, required=False),
    )
    _address_hint: ClassVar[str] = "most base URLs end in /v1"

    api_key: Secret = _NO_KEY
    base_url: str = option(
        "https://api.openai.com/v1", help="the API's address, up to /v1", aliases=("endpoint",)
    )
    organization: str = option("", help="the organization that is billed (org-…)")
    project: str = option("", help="the project that owns the file (proj_…)")

    def __post_init__(self) -> None:
        for name in ("organization", "project"):
            if not re.fullmatch(r"[!-~]*", getattr(self, name)):
                raise InvalidUpload(f"{name} holds characters that cannot stand in a header")
        super().__post_init__()

    @property
    def account(self) -> str:
        """Address, organization, project, and which key, told apart but not shown."""
        return f"{self._base} {self.organization} {self.project} {self.api_key.identity()}"

    @property
    def _base(self) -> str:
        return self.base_url.strip().rstrip("/")

    def _auth(self) -> dict[str, str]:
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        sent = {name: value for name, value in named.items() if value}
        if self.api_key:
            sent["Authorization"] = f"Bearer {self.api_key.reveal()}"
        return sent

    def _client_code(self) -> str:
        default = type(self).__dataclass_fields__["base_url"].default
        given = {
            "base_url": "" if self._base == default else self._base,
            "organization": self.organization,
            "project": self.project,
        }
        return f"from openai import OpenAI\n\nclient = OpenAI({_arguments(given)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class AzureOpenAI(_Uploads):
    """Files at an Azure OpenAI resource, by key or by Entra token."""

    title: ClassVar[str] = "Azure OpenAI"
    scheme: ClassVar[str] = "azure-openai"
    form: ClassVar[str] = "azure-openai:PURPOSE"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("api_key", ("AZURE_OPENAI_API_KEY",), required=False),
        Need("ad_token", ("AZURE_OPENAI_AD_TOKEN",), required=False),
        Need("endpoint", ("AZURE_OPENAI_ENDPOINT",), secret=False),
        Need("api_version", ("OPENAI_API_VERSION",), secret=False, required=False),
    )
    _address_hint: ClassVar[str] = (
        "uploads are offered by a resource (https://NAME.openai.azure.com), not by a project "
        "or a deployment; --url-style v1 and --url-style dated are tried apart"
    )

    rules: Rules = AZURE_RULES
    api_key: Secret = _NO_KEY
    ad_token: Secret = _NO_KEY
    endpoint: str = option(
        "",
        help="the resource's address (https://NAME.openai.azure.com)",
        aliases=("base-url",),
    )
    # The first general version that has uploads, Azure OpenAI REST reference, read 2026-11.
    api_version: str = option("2024-10-21", help="the version in dated addresses")
    url_style: str = option(
        "",
        help="/openai?api-version=… or /openai/v1; found out from the endpoint",
        choices=("dated", "v1"),
    )

    def __post_init__(self) -> None:
        if not self.endpoint:
            raise InvalidUpload(
                "Azure OpenAI needs the resource's address: --endpoint "
                "https://NAME.openai.azure.com, or AZURE_OPENAI_ENDPOINT"
            )
        if self.url_style not in ("", "dated", "v1"):
            raise InvalidUpload(f"{self.url_style!r} is no URL style; there are dated and v1")
        if not re.fullmatch(r"[A-Za-z0-9.-]*", self.api_version):
            raise InvalidUpload(f"{self.api_version!r} is no API version")
        super().__post_init__()
        if not self.api_key and not self.ad_token:
            raise CredentialsMissing(
                "no key for Azure OpenAI: looked for AZURE_OPENAI_API_KEY and "
                "AZURE_OPENAI_AD_TOKEN; set one, or try --ask-key or --sandbox"
            )

    @property
    def account(self) -> str:
        """The resource, and which key; tokens change by the hour, so any is as good."""
        return f"{self._base} {'entra' if self.ad_token else self.api_key.identity()}"

    @property
    def _root(self) -> tuple[str, bool]:
        """The resource's address, and whether its /openai/v1 is meant."""
        root = self.endpoint.strip().rstrip("/")
        found = re.fullmatch(r"(.*?)/openai(/v1)?", root)
        named_v1 = bool(found and found[2]) or self.api_version in ("v1", "preview", "latest")
        return (found[1] if found else root), (
            self.url_style == "v1" if self.url_style else named_v1
        )

    @property
    def _base(self) -> str:
        root, v1 = self._root
        return f"{root}/openai/v1" if v1 else f"{root}/openai"

    @property
    def _query(self) -> Mapping[str, str]:
        # The newer surface has no dated versions; "preview" is a word of its own there.
        if self._root[1]:
            words = ("preview", "latest")
            return {"api-version": self.api_version} if self.api_version in words else {}
        return {"api-version": self.api_version}

    def _auth(self) -> dict[str, str]:
        if self.ad_token:
            return {"Authorization": f"Bearer {self.ad_token.reveal()}"}
        return {"api-key": self.api_key.reveal()}

    def _expect(self, response: Response, doing: str) -> Response:
        try:
            return super()._expect(response, doing)
        except AuthError as error:
            error.expired = bool(self.ad_token) and response.status == 401
            raise

    def _client_code(self) -> str:
        root, v1 = self._root
        if v1:
            given = _arguments({"base_url": self._base})
            key = "AZURE_OPENAI_AD_TOKEN" if self.ad_token else "AZURE_OPENAI_API_KEY"
            return (
                f"import os\n\nfrom openai import OpenAI\n\n"
                f'client = OpenAI({given}, api_key=os.environ["{key}"])'
            )
        given = _arguments({"azure_endpoint": root, "api_version": self.api_version})
        return f"from openai import AzureOpenAI\n\nclient = AzureOpenAI({given})"


# What people do next, by purpose; models named in OpenAI's guides, read 2026-11.
_USES = {
    "fine-tune": "job = client.fine_tuning.jobs.create(\n"
    '    training_file="{id}",\n    model="gpt-4.1-mini-2025-04-14",\n)\njob.id',
    "batch": "batch = client.batches.create(\n"
    '    input_file_id="{id}",\n    endpoint="/v1/chat/completions",\n'
    '    completion_window="24h",\n)\nbatch.id',
    "assistants": 'store = client.vector_stores.create(name="my files")\n'
    'client.vector_stores.files.create(vector_store_id=store.id, file_id="{id}")',
    "user_data": 'store = client.vector_stores.create(name="my files")\n'
    'client.vector_stores.files.create(vector_store_id=store.id, file_id="{id}")',
    "vision": "answer = client.responses.create(\n"
    '    model="gpt-4.1-mini",\n'
    '    input=[{"role": "user", "content": [{"type": "input_image", "file_id": "{id}"}]}],\n'
    ")\nanswer.output_text",
}


def _arguments(given: Mapping[str, str]) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in given.items() if value)


def _as_secret(value: object, variable: str) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(str(value))
    text = secret.reveal().strip()  # a line break from a file or a paste is no part of a key
    if not re.fullmatch(r"[!-~]*", text):
        raise InvalidUpload(f"the key in {variable} holds characters that no key has")
    return secret if text == secret.reveal() else Secret(text)


def _check_name(file: FileInfo) -> None:
    try:
        file.name.encode()
    except UnicodeEncodeError:
        raise InvalidUpload(
            "the file's name is not valid Unicode; give another by --name"
        ) from None
    if not file.name or "\x00" in file.name:
        raise InvalidUpload("the file needs a name without NUL; give one by --name")


def _is_id(value: object) -> bool:
    """Say whether a server's id may stand in a path."""
    return isinstance(value, str) and bool(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~=:-]{0,255}", value)
    )


def _identifier(value: object, response: Response, what: str) -> str:
    if not _is_id(value):
        raise _error(
            ProtocolError, response, f"{response.host} gave the {what} no id that can be used"
        )
    return str(value)


def _number(value: object, response: Response, what: str) -> int:
    """Return a time in Unix seconds as a server wrote it."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise _error(ProtocolError, response, f"{response.host}: {clean(value, 40)} is no {what}")
    return value


def _since(item: Mapping[str, Any], session: Session) -> bool:
    created = item.get("created_at")
    return isinstance(created, int) and created >= int(session.extra.get("created_at", 0))


def _object(response: Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one when it is none."""
    try:
        return json_of(response)
    except ProtocolError:
        return {}


def _words(response: Response) -> str:
    return " ".join(problem(response)).lower()


def _error(kind: type[ProviderError], response: Response, text: str) -> ProviderError:
    return kind(
        text,
        status=response.status,
        code=problem(response)[0] if response.status >= 400 else "",
        request_id=request_id(response),
        host=response.host,
    )

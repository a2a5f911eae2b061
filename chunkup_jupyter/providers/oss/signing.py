"""How OSS requests are signed: versions 4 and 1, as headers or as a URL.

Pure functions of their arguments, the clock included. Signatures do not depend on
the style of the URL: the bucket is always in the signed path.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from ...secrets import Secret
from ...wire import encoded

MAX_EXPIRES = 604_800
"""Seconds; EC 0002-00000232 in the OSS error reference, read 2026-11."""

_UNSIGNED = "UNSIGNED-PAYLOAD"  # the only value OSS takes: EC 0002-00000214, read 2026-11

# Parameters that take part in a version 1 signature, of those that reading and
# uploading objects uses. The vendor's SDK (oss2 2.19.1, auth.py) has the whole list.
_SUB_RESOURCES = frozenset(
    "acl append callback callback-var continuation-token delete location objectMeta partNumber "
    "position response-cache-control response-content-disposition response-content-encoding "
    "response-content-language response-content-type response-expires restore security-token "
    "sequential symlink tagging uploadId uploads versionId versioning versions x-oss-process "
    "x-oss-request-payer x-oss-traffic-limit".split()
)


@dataclass(frozen=True)
class Keys:
    """Who signs. ``token`` belongs to temporary (STS) credentials."""

    id: Secret
    secret: Secret
    token: Secret | None = None


@dataclass(frozen=True)
class Call:
    """What is signed. A ``key`` of "" is the bucket itself; an empty value is a bare name."""

    method: str
    bucket: str
    key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def sign_v4(
    call: Call, keys: Keys, region: str, at: float, additional: Iterable[str] = ()
) -> dict[str, str]:
    """Return the headers that sign a call at a time in Unix seconds.

    ``additional`` names headers to sign beyond those that always are.
    """
    stamp = _stamp(at)
    fields = {"x-oss-date": stamp, "x-oss-content-sha256": _UNSIGNED}
    if keys.token:
        fields["x-oss-security-token"] = keys.token.reveal()
    whole = Call(call.method, call.bucket, call.key, call.query, {**call.headers, **fields})
    names = additional_v4(whole.headers, additional)
    signature = signature_v4(canonical_v4(whole, names), keys.secret, stamp, region)
    credential = f"{keys.id.reveal()}/{scope_v4(stamp, region)}"
    more = f"AdditionalHeaders={';'.join(names)}," if names else ""
    fields["Authorization"] = (
        f"OSS4-HMAC-SHA256 Credential={credential},{more}Signature={signature}"
    )
    return fields


def presign_v4(
    call: Call,
    keys: Keys,
    region: str,
    at: float,
    expires: int,
    additional: Iterable[str] = (),
) -> tuple[tuple[str, str], ...]:
    """Return the whole query of a URL that works for ``expires`` seconds (1 to 604,800)."""
    stamp = _stamp(at)
    names = additional_v4(call.headers, additional)
    query = [
        *call.query,
        ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
        ("x-oss-date", stamp),
        ("x-oss-expires", str(expires)),
        ("x-oss-credential", f"{keys.id.reveal()}/{scope_v4(stamp, region)}"),
    ]
    if keys.token:
        query.append(("x-oss-security-token", keys.token.reveal()))
    if names:
        query.append(("x-oss-additional-headers", ";".join(names)))
    whole = Call(call.method, call.bucket, call.key, tuple(query), call.headers)
    signature = signature_v4(canonical_v4(whole, names), keys.secret, stamp, region)
    return (*query, ("x-oss-signature", signature))


def canonical_v4(call: Call, additional: Iterable[str] = ()) -> str:
    """Return the canonical request: six fields, the fourth of which ends in a newline."""
    wanted = {name.lower() for name in additional}
    fields = sorted((name.lower(), value.strip()) for name, value in call.headers.items())
    signed = [f"{n}:{v}\n" for n, v in fields if _always_signed(n) or n in wanted]
    pairs = sorted((encoded(k), encoded(v)) for k, v in call.query)
    return "\n".join(
        [
            call.method.upper(),
            f"/{call.bucket}/{encoded(call.key, '/')}",
            "&".join(f"{k}={v}" if v else k for k, v in pairs),
            "".join(signed),
            ";".join(additional_v4(call.headers, wanted)),
            _UNSIGNED,
        ]
    )


def additional_v4(headers: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """Return the names worth signing: those that are there and not signed anyway."""
    present = {name.lower() for name in headers}
    return sorted(n for n in {w.lower() for w in wanted} & present if not _always_signed(n))


def scope_v4(stamp: str, region: str) -> str:
    """Return what a signature is good for: a day, a region, this service."""
    return f"{stamp[:8]}/{region}/oss/aliyun_v4_request"


def string_v4(canonical: str, stamp: str, region: str) -> str:
    """Return the string that is signed."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"OSS4-HMAC-SHA256\n{stamp}\n{scope_v4(stamp, region)}\n{digest}"


def key_v4(secret: Secret, stamp: str, region: str) -> bytes:
    """Return the key of one day, region and service."""
    key = b"aliyun_v4" + secret.reveal().encode()
    for step in scope_v4(stamp, region).split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def signature_v4(canonical: str, secret: Secret, stamp: str, region: str) -> str:
    """Return the signature in hex."""
    text = string_v4(canonical, stamp, region)
    return hmac.new(key_v4(secret, stamp, region), text.encode(), "sha256").hexdigest()


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def _always_signed(name: str) -> bool:
    return name.startswith("x-oss-") or name in ("content-type", "content-md5")


def sign_v1(call: Call, keys: Keys, at: float) -> dict[str, str]:
    """Return the headers that sign a call at a time in Unix seconds."""
    date = format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
    fields = {"Date": date}
    if keys.token:
        fields["x-oss-security-token"] = keys.token.reveal()
    whole = Call(call.method, call.bucket, call.key, call.query, {**call.headers, **fields})
    signature = signature_v1(string_v1(whole, date), keys.secret)
    fields["Authorization"] = f"OSS {keys.id.reveal()}:{signature}"
    return fields


def presign_v1(call: Call, keys: Keys, expires_at: int) -> tuple[tuple[str, str], ...]:
    """Return the whole query of a URL that works until a time in Unix seconds."""
    query = list(call.query)
    if keys.token:
        query.append(("security-token", keys.token.reveal()))
    whole = Call(call.method, call.bucket, call.key, tuple(query), call.headers)
    signature = signature_v1(string_v1(whole, str(expires_at)), keys.secret)
    return (
        *query,
        ("OSSAccessKeyId", keys.id.reveal()),
        ("Expires", str(expires_at)),
        ("Signature", signature),
    )


def string_v1(call: Call, date: str) -> str:
    """Return the string that is signed; ``date`` is the Date header or the expiry."""
    fields = {name.lower(): value.strip() for name, value in call.headers.items()}
    ours = "".join(f"{n}:{fields[n]}\n" for n in sorted(fields) if n.startswith("x-oss-"))
    pairs = sorted((k, v) for k, v in call.query if k in _SUB_RESOURCES)
    resource = f"/{call.bucket}/{call.key}"
    if pairs:
        resource += "?" + "&".join(f"{k}={v}" if v else k for k, v in pairs)
    lines = [
        call.method.upper(),
        fields.get("content-md5", ""),
        fields.get("content-type", ""),
        date,
    ]
    return "\n".join([*lines, ours + resource])


def signature_v1(text: str, secret: Secret) -> str:
    """Return the signature in base64."""
    digest = hmac.digest(secret.reveal().encode(), text.encode(), "sha1")
    return base64.b64encode(digest).decode()

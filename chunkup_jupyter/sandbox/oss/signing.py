"""Does OSS's checking of signatures: versions 4 and 1, in headers and in URLs.

Written from the protocol's description alone; it shares nothing with the code that
signs, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from calendar import timegm
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from .. import Call, No, same

_SCHEME = "OSS4-HMAC-SHA256"

# oss2 2.19.1, auth.py: the parameters that version 1 signs
_SIGNED_V1 = frozenset(
    "response-content-type response-content-language response-cache-control logging "
    "response-content-encoding acl uploadId uploads partNumber group link delete website location "
    "objectInfo objectMeta response-expires response-content-disposition cors lifecycle restore "
    "qos referer stat bucketInfo append position security-token live comp status vod startTime "
    "endTime x-oss-process symlink callback callback-var tagging encryption versions versioning "
    "versionId policy requestPayment x-oss-traffic-limit qosInfo asyncFetch x-oss-request-payer "
    "sequential inventory inventoryId continuation-token worm wormId wormExtend".split()
)


class Refusal(No):
    """A refusal in OSS' words. ``more`` are further elements of the error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        ec: str = "0000-00000000",
        **more: str,
    ) -> None:
        super().__init__(status, code, message)
        self.ec, self.more = ec, more


@dataclass(frozen=True)
class Checker:
    """What a signature is checked against. Times are in seconds.

    ``token`` is the STS token that belongs to the key, None for a key of its own.
    """

    key_id: str
    secret: str = field(repr=False)
    region: str
    token: str | None = field(default=None, repr=False)
    token_expired: bool = False
    skew: float = 900
    max_expires: int = 604_800
    version_1: bool = True

    def check(self, call: Call, bucket: str, key: str, now: float) -> None:
        """Return when the call is signed by our key. Raises ``Refusal``."""
        header = call.headers.get("authorization", "")
        names = {name for name, _ in call.query}
        in_url = "x-oss-signature" in names or "Signature" in names
        if header and in_url:
            raise Refusal(400, "InvalidArgument", "Signed in the header and in the URL.")
        if header.startswith(_SCHEME):
            self._header_4(call, header, bucket, key, now)
        elif header.startswith("OSS "):
            self._header_1(call, header, bucket, key, now)
        elif header:
            raise Refusal(400, "InvalidArgument", "The Authorization header is of no known kind.")
        elif "x-oss-signature" in names:
            self._url_4(call, bucket, key, now)
        elif "Signature" in names:
            self._url_1(call, bucket, key, now)
        else:
            raise Refusal(403, "AccessDenied", "You have no right to access this object.")

    def _header_4(self, call: Call, header: str, bucket: str, key: str, now: float) -> None:
        fields = _fields(header.removeprefix(_SCHEME))
        if not {"Credential", "Signature"} <= fields.keys():
            raise Refusal(400, "InvalidArgument", "The Authorization header is incomplete.")
        if call.headers.get("x-oss-content-sha256") != "UNSIGNED-PAYLOAD":
            raise Refusal(
                400,
                "InvalidArgument",
                "x-oss-content-sha256 must be UNSIGNED-PAYLOAD.",
                "0002-00000214",
            )
        stamp = call.headers.get("x-oss-date", "")
        scope = self._scope(fields["Credential"], stamp, "0002-00000228")
        self._skewed(_stamp_time(stamp), now)
        self._token(call.headers.get("x-oss-security-token"))
        self._compare_4(
            call,
            bucket,
            key,
            list(call.query),
            fields.get("AdditionalHeaders", ""),
            stamp,
            scope,
            fields["Signature"],
        )

    def _url_4(self, call: Call, bucket: str, key: str, now: float) -> None:
        if call.get("x-oss-signature-version") != _SCHEME:
            raise Refusal(400, "InvalidArgument", "x-oss-signature-version is not known.")
        stamp, credential = call.get("x-oss-date") or "", call.get("x-oss-credential") or ""
        expires = call.get("x-oss-expires") or ""
        if not expires.isdecimal() or not 1 <= int(expires) <= self.max_expires:
            raise Refusal(400, "InvalidArgument", "x-oss-expires is out of range.", "0002-00000232")
        scope = self._scope(credential, stamp, "0002-00000226")
        begun = _stamp_time(stamp)
        if begun > now + self.skew:
            raise Refusal(403, "AccessDenied", "The request is not valid yet.")
        if begun + int(expires) < now:
            raise Refusal(403, "AccessDenied", "Request has expired.")
        self._token(call.get("x-oss-security-token"))
        rest = [(k, v) for k, v in call.query if k != "x-oss-signature"]
        self._compare_4(
            call,
            bucket,
            key,
            rest,
            call.get("x-oss-additional-headers") or "",
            stamp,
            scope,
            call.get("x-oss-signature") or "",
        )

    def _scope(self, credential: str, stamp: str, ec: str) -> str:
        key_id, _, scope = credential.partition("/")
        self._known(key_id)
        day, region, *rest = [*scope.split("/"), "", ""]
        if rest[:2] != ["oss", "aliyun_v4_request"] or len(scope.split("/")) != 4:
            raise Refusal(400, "InvalidArgument", "The credential is malformed.", "0002-00000213")
        if region != self.region:
            raise Refusal(400, "InvalidArgument", "The signing region is wrong.", ec)
        if day != stamp[:8]:
            raise Refusal(400, "InvalidArgument", "The signing date is wrong.", "0002-00000212")
        return scope

    def _compare_4(
        self,
        call: Call,
        bucket: str,
        key: str,
        query: list[tuple[str, str]],
        additional: str,
        stamp: str,
        scope: str,
        given: str,
    ) -> None:
        extra = [name for name in additional.lower().split(";") if name]
        lines = [call.method, quote(f"/{bucket}/{key}" if bucket else "/", safe="/~")]
        words = []
        for name, value in query:
            word = quote(name, safe="~")
            words.append((word, quote(value, safe="~")))
        lines.append("&".join(f"{n}={v}" if v else n for n, v in sorted(words)))
        block = ""
        for name in sorted(call.headers):
            if (
                name.startswith("x-oss-")
                or name in ("content-type", "content-md5")
                or name in extra
            ):
                block += f"{name}:{call.headers[name].strip()}\n"
        lines += [block, ";".join(sorted(extra)), "UNSIGNED-PAYLOAD"]
        canonical = "\n".join(lines)
        text = f"{_SCHEME}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key_bytes = ("aliyun_v4" + self.secret).encode()
        for step in scope.split("/"):
            key_bytes = hmac.new(key_bytes, step.encode(), hashlib.sha256).digest()
        ours = hmac.new(key_bytes, text.encode(), hashlib.sha256).hexdigest()
        self._equal(ours, given, text, CanonicalRequest=canonical)

    def _header_1(self, call: Call, header: str, bucket: str, key: str, now: float) -> None:
        key_id, _, given = header.removeprefix("OSS ").rpartition(":")
        self._version_1()
        self._known(key_id)
        date = call.headers.get("x-oss-date") or call.headers.get("date", "")
        try:
            sent = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError):
            raise Refusal(403, "AccessDenied", "OSS needs a valid Date.") from None
        self._skewed(sent, now)
        self._token(call.headers.get("x-oss-security-token"))
        self._compare_1(call, bucket, key, date, given)

    def _url_1(self, call: Call, bucket: str, key: str, now: float) -> None:
        self._version_1()
        self._known(call.get("OSSAccessKeyId") or "")
        expires = call.get("Expires") or ""
        if not expires.isdecimal():
            raise Refusal(403, "AccessDenied", "Expires must be a time in Unix seconds.")
        if int(expires) < now:
            raise Refusal(403, "AccessDenied", "Request has expired.")
        self._token(call.get("security-token"))
        self._compare_1(call, bucket, key, expires, call.get("Signature") or "")

    def _compare_1(self, call: Call, bucket: str, key: str, date: str, given: str) -> None:
        text = f"{call.method}\n{call.headers.get('content-md5', '')}\n"
        text += f"{call.headers.get('content-type', '')}\n{date}\n"
        for name in sorted(call.headers):
            if name.startswith("x-oss-"):
                text += f"{name}:{call.headers[name].strip()}\n"
        text += f"/{bucket}/{key}" if bucket else "/"
        words = sorted((n, v) for n, v in call.query if n in _SIGNED_V1)
        if words:
            text += "?" + "&".join(f"{n}={v}" if v else n for n, v in words)
        digest = hmac.new(self.secret.encode(), text.encode(), hashlib.sha1).digest()
        self._equal(base64.b64encode(digest).decode(), given, text)

    def _version_1(self) -> None:
        if not self.version_1:
            raise Refusal(
                403,
                "AccessDenied",
                "Signature version 1 is not allowed for this account.",
                "0002-00000080",
            )

    def _known(self, key_id: str) -> None:
        if not same(key_id, self.key_id):
            raise Refusal(403, "InvalidAccessKeyId", "The access key id does not exist.")

    def _skewed(self, sent: float, now: float) -> None:
        if abs(now - sent) > self.skew:
            raise Refusal(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )

    def _token(self, given: str | None) -> None:
        if self.token is None:
            if given is not None:
                raise Refusal(
                    403, "AccessKeyIdAndSecurityTokenNotMatch", "This key has no security token."
                )
            return
        if given is None:
            raise Refusal(403, "InvalidAccessKeyId", "This key needs its security token.")
        if not same(given, self.token):
            raise Refusal(403, "InvalidSecurityToken", "The security token is not valid.")
        if self.token_expired:
            raise Refusal(403, "SecurityTokenExpired", "The security token has expired.")

    def _equal(self, ours: str, given: str, text: str, **more: str) -> None:
        if not same(ours, given):
            raise Refusal(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
                OSSAccessKeyId=self.key_id,
                SignatureProvided=given,
                StringToSign=text,
                StringToSignBytes=" ".join(f"{byte:02X}" for byte in text.encode()),
                **more,
            )


def _fields(text: str) -> dict[str, str]:
    """Return the parts of an Authorization header, in any order, with or without spaces."""
    pairs = (piece.strip().partition("=") for piece in text.split(","))
    return {name: value for name, _, value in pairs}


def _stamp_time(stamp: str) -> float:
    try:
        return timegm(datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").timetuple())
    except ValueError:
        raise Refusal(403, "AccessDenied", "x-oss-date is not a valid date.") from None

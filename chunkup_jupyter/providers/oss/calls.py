"""One request to OSS: addressed, signed, and signed again when a clock was wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from ...answers import date_of, problem
from ...errors import CredentialsMissing
from ...model import Body, Flow, Session
from ...wire import Request, Response
from . import signing
from .addresses import query_text
from .answers import accept, answer, readable, senseless
from .settings import Settings

TRIES = 3  # of one request whose answer asks for another, or makes no sense
# 400s that pass: the first two by alibabacloud-oss-v2 1.4.1, error_retryable.py; the last
# is a byte that changed on its way.
_AGAIN = frozenset({"RequestTimeout", "BadRequest", "InvalidDigest"})
_DOING = {
    "InitiateMultipartUploadResult": "opening the upload",
    "ListPartsResult": "listing the parts",
    "ListMultipartUploadsResult": "listing unfinished uploads",
}


class Calls(Settings):
    """How OSS is asked. Requests are signed anew each time they are made."""

    def _call(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | Body = b"",
        *,
        once: bool = False,
    ) -> Flow[Response]:
        """Send one signed request; sign again when a clock was wrong or a 400 is passing."""
        for _ in range(TRIES):
            response = readable(
                (yield self._request(method, key, query, headers or {}, content, once))
            )
            if response.status < 400:
                break
            code = problem(response)[0]
            if code == "RequestTimeTooSkewed":
                # Also what a request meets that waited longer than 15 minutes for the network.
                if not self._learn_clock(response):
                    break
            elif response.status != 400 or code not in _AGAIN:
                break
        return response

    def _ask(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]],
        name: str,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[Element]:
        """Return the XML of that name; a 200 that holds something else is asked for again."""
        doing = _DOING[name]
        for _ in range(TRIES):
            response = yield from self._call(method, key, query, headers)
            root = answer(accept(response, doing, 200), name)
            if root is not None:
                return root
        raise senseless(response, doing)

    def _request(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        content: bytes | Body,
        once: bool,
    ) -> Request:
        call = signing.Call(method, self.bucket, key, tuple(query), headers)
        if self.signature == "v1":
            signed = signing.sign_v1(call, self._keys, self._time())
        else:
            signed = signing.sign_v4(call, self._keys, self.region, self._time())
        url = self._address(key)
        if query:
            url += "?" + query_text(query)
        return Request(method, url, {**headers, **signed}, content, once=once)

    def _key_of(self, session: Session) -> str:
        """Return the key an upload was opened for."""
        return session.extra.get("key", self.key)

    def _clobber(self) -> dict[str, str]:
        """Return the header that forbids to replace an object, if that was asked for."""
        return {"x-oss-forbid-overwrite": "true"} if self.no_clobber else {}

    @property
    def _keys(self) -> signing.Keys:
        if not self.access_key_id or not self.access_key_secret:
            raise CredentialsMissing(
                "OSS needs OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; --sandbox needs neither"
            )
        return signing.Keys(self.access_key_id, self.access_key_secret, self.session_token)

    @property
    def _host(self) -> str:
        return urlsplit(self._address("")).hostname or ""

    def _time(self) -> float:
        return self.now() + self.skew.get("offset", 0.0)

    def _learn_clock(self, response: Response) -> bool:
        """Keep how far off our clock is, by the server's Date; False when it gives none."""
        theirs = date_of(response)
        if theirs is not None:
            self.skew["offset"] = theirs - self.now()
        return theirs is not None

"""The presigned URLs at hand: fetched before they are needed, used once, forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ProtocolError, Refused
from ...model import Flow, Session
from ...plan import count
from ...secrets import Secret
from .addresses import check_presigned
from .answers import instant, integer, objects
from .sessions import Sessions, lost, path_of

MOST_URLS = 50  # of one call for more of them; spec, RequestAdditionalPresignedURLsRequest
URL_LIFE = 3600.0  # seconds; spec, PresignedURLChunk
_AHEAD = 16  # parts before the last known URL at which more are fetched; above the usual jobs


@dataclass(frozen=True)
class _Grant:
    """A presigned URL, and until when (Unix seconds, the server's clock) it is used."""

    url: Secret
    good_until: float


@dataclass(frozen=True, kw_only=True)
class Urls(Sessions):
    """Where parts go."""

    # Presigned URLs live here and nowhere else: they are secrets, and dead in an hour.
    _urls: dict[tuple[str, int], _Grant] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _reach: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _more_urls(self, session: Session, number: int) -> Flow[None]:
        """Make sure that part ``number`` has a URL which is not about to expire.

        Fifty are fetched at a time, and the next fifty while there are some left, so
        that workers do not all find none at the same moment.
        """
        key = session.upload_id, number
        total = count(session.file.size, session.part_size)
        grant = self._urls.get(key)
        if grant is None or self._time() >= grant.good_until:
            start = number
        elif number + _AHEAD > (reach := self._reach.get(session.upload_id, total)) < total:
            start = reach + 1
        else:
            return
        many = min(MOST_URLS, total - start + 1)
        reach = self._reach.get(session.upload_id, 0)
        self._reach[session.upload_id] = max(reach, start + many - 1)
        doing = f"asking for the URL of part {number}"
        path, body = f"{path_of(session)}/presigned-urls", {"start": start, "count": many}
        try:
            data = yield from self._ask("POST", path, body, "upload_urls", doing=doing)
        except Refused as error:
            if error.status in (404, 410):
                raise lost(session) from error
            if error.status == 400:  # a bad range, or a session that is over: ask which
                yield from self._state(session, whole=False)
            raise
        self._keep_urls(session, data)
        if key not in self._urls:
            raise ProtocolError(f"{doing}: TwelveLabs answered without it")

    def _keep_urls(self, session: Session, data: Mapping[str, Any]) -> None:
        """Check and keep the URLs of an answer."""
        now, total = self._time(), count(session.file.size, session.part_size)
        seen: set[int] = set()
        for each in objects(data, "upload_urls"):
            number = integer(each, "chunk_index", 1, total)
            if number in seen:
                raise ProtocolError(f"TwelveLabs gave two URLs for part {number}")
            seen.add(number)
            url = check_presigned(each.get("url"), self.base_url)
            ends = instant(each.get("expires_at"), now + URL_LIFE)
            # 80 % of its life, so that a slow part does not outlive its URL.
            self._urls[session.upload_id, number] = _Grant(Secret(url), now + 0.8 * (ends - now))
        if seen:
            reach = self._reach.get(session.upload_id, 0)
            self._reach[session.upload_id] = max(reach, *seen)

    def _forget(self, session: Session) -> None:
        for key in [key for key in self._urls if key[0] == session.upload_id]:
            del self._urls[key]
        self._reach.pop(session.upload_id, None)

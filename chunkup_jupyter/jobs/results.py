"""What users hold when an upload is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import units
from ..answers import unsigned
from ..model import Provider, Result


@dataclass(frozen=True, repr=False)
class UploadResult:
    """A finished upload. ``str(result)`` is the id: what the provider's next call takes.

    ``size`` in bytes, ``elapsed`` in seconds, ``rate`` in bytes a second (of what this
    run sent), ``expires_at`` in Unix seconds or None. ``verified`` says what was compared
    and by whom; ``raw`` is the provider's own answer, its URLs without queries, which may
    be passwords; ``reused`` counts the parts an earlier run had sent. ``status`` is "ready",
    or "processing" when the provider was not done in time. ``sandbox`` says that it stands on
    this machine only. ``same_as`` is the id of an earlier upload of the same bytes to the same
    place, "" when history knows of none. Pickling keeps the facts, not the connection to the
    provider.
    """

    id: str
    provider: str
    target: str
    name: str
    size: int
    parts: int
    reused: int
    retries: int
    elapsed: float
    rate: float
    status: str = "ready"
    url: str = ""
    verified: tuple[str, ...] = ()
    expires_at: float | None = None
    sandbox: bool = False
    same_as: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)
    _provider: Provider | None = field(default=None, compare=False)
    _perform: Callable[[Provider, Any], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("url", "raw"):
            object.__setattr__(self, name, unsigned(getattr(self, name)))

    def __str__(self) -> str:
        return self.id

    def __getstate__(self) -> dict[str, Any]:
        # The provider holds the key.
        return self.__dict__ | {"_provider": None, "_perform": None}

    def __copy__(self) -> UploadResult:
        return self

    def __deepcopy__(self, memo: object) -> UploadResult:
        return self

    @property
    def was_there(self) -> bool:
        """Whether nothing was sent: it is an earlier upload, reused."""
        return self.parts == 0

    def __repr__(self) -> str:
        if self.was_there:
            there = "was there already, nothing was sent"
            return f"{self.name} → {self.id} · {units.size(self.size)} · {there}"
        facts = [units.size(self.size), units.seconds(self.elapsed)]
        if self.rate:
            facts.append(units.rate(self.rate))
        facts.extend(self.verified)
        facts.append(f"{self.parts} part{'s' * (self.parts != 1)}{self.details}")
        if self.expires_at is not None:
            facts.append(f"expires in {units.seconds(max(0, self.expires_at - time.time()))}")
        if self.status != "ready":
            facts.append(self.status)
        if self.same_as:
            facts.append(f"the same bytes as {self.same_as}")
        where = " (sandbox)" if self.sandbox else ""
        return f"{self.name} → {self.id}{where} · {' · '.join(facts)}"

    @property
    def details(self) -> str:
        """Parts retried and reused, in words: " (2 retried, 31 from an earlier run)"."""
        facts = []
        if self.retries:
            facts.append(f"{self.retries} retried")
        if self.reused:
            facts.append(f"{self.reused} from an earlier run")
        return f" ({', '.join(facts)})" if facts else ""

    def next(self) -> Cell:
        """Return the code of a next cell that uses this result; a cell shows it as it is."""
        return Cell("" if self._provider is None else self._provider.next_cell(self._result()))

    def wait_ready(self, timeout: float = 3600.0) -> UploadResult:
        """Wait until the provider can use the file; return the result as it is then.

        Raises ``Refused`` when the provider's processing failed, ``TimeoutError`` after
        ``timeout`` seconds.
        """
        from ..model import NotYet

        deadline = time.monotonic() + timeout
        while True:
            answer = self._do(lambda provider: provider.ready(self._result()))
            if not isinstance(answer, NotYet):
                return replace(self, raw=answer.raw, status="ready", verified=answer.verified)
            if time.monotonic() + answer.retry_after > deadline:
                raise TimeoutError(f"{self.id} is not ready after {units.seconds(timeout)}")
            time.sleep(answer.retry_after)

    def delete(self) -> None:
        """Delete the uploaded file at the provider."""
        self._do(lambda provider: provider.delete(self._result()))

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        names = (
            "id provider target name size parts reused retries elapsed rate status url "
            "expires_at sandbox same_as"
        )
        return {name: getattr(self, name) for name in names.split()} | {
            "verified": list(self.verified),
            "raw": dict(self.raw),
        }

    def _result(self) -> Result:
        return Result(self.id, self.url, self.size, self.raw, self.verified, self.expires_at)

    def _do(self, verb: Callable[[Provider], Any]) -> Any:
        if self._provider is None or self._perform is None:
            raise RuntimeError(
                "this result has no connection to its provider, because it was pickled: use its id"
            )
        return self._perform(self._provider, verb)


class Cell(str):
    """Code that is shown as it is written, not as a quoted string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

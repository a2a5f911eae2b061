"""Verbs driven by hand: a blocking client, and flows run one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..model import Flow, Provider
from ..model import drive as drive_flow
from ..transport import Transport
from ..wire import Request, Response
from ..wire.client import HttpClient
from . import background

T = TypeVar("T")


class Client:
    """A blocking client, to drive flows by hand: ``client(request)`` is the response.

    A context manager; ``close`` ends its connections. ``ca_bundle`` is a file of
    certificates to trust. Raises a ``WireError`` when no answer came, and nothing for
    one that says no.
    """

    def __init__(self, *, ca_bundle: str | None = None) -> None:
        self._wire = HttpClient(ca_bundle=ca_bundle)

    def __call__(self, request: Request) -> Response:
        """Send one request, once, and return its answer."""
        return background.submit(self._wire.send(request)).result()

    def close(self) -> None:
        """Close the connections."""
        background.submit(self._wire.close()).result()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def drive(flow: Flow[T], client: Callable[[Request], Response] | None = None) -> T:
    """Run one verb's flow to its end and return its value; nothing is retried.

    ``client`` is any function from request to response: a ``Client``, a sandbox's
    ``handle``, your own. Without one a ``Client`` is made for this call. Raises what
    the flow makes of the answers (``ProviderError``, ``IntegrityError``) and what the
    client raises.
    """
    if client is not None:
        return drive_flow(flow, client)
    with Client() as made:
        return drive_flow(flow, made)


def perform(
    provider: Provider, verb: Callable[[Provider], Flow[T]], *, ca_bundle: str | None = None
) -> T:
    """Run one verb of a provider with retries, and wait for its value."""

    async def run() -> T:
        wire = HttpClient(ca_bundle=ca_bundle)
        try:
            return await Transport(wire, provider.rules).run(verb(provider))
        finally:
            await wire.close()

    return background.submit(run()).result()

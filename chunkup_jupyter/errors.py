"""Everything that can go wrong, as one tree.

::

    ChunkupError
    ├─ InvalidUpload (ValueError)     cannot work as asked; raised before any request
    │  ├─ EmptyFile                   this provider needs at least one byte
    │  └─ NameNeeded (TypeError)      bytes without a name
    ├─ SourceError (OSError)
    │  ├─ NotRegularFile              a directory, a device, a pipe that cannot be sized
    │  ├─ SourceChanged               not the bytes the upload began with
    │  └─ SourceGone                  the browser tab was closed
    ├─ ProviderError                  the server answered, and the answer is no
    │  ├─ AuthError                   401, 403
    │  ├─ SessionLost                 the server no longer knows this upload
    │  ├─ ProtocolError               an answer that makes no sense
    │  └─ Refused                     any other no
    ├─ Unreachable                    every attempt at one request failed
    │  └─ AnswerLost                  a request may have worked; its answer never came
    ├─ IntegrityError                 the server holds other bytes than were sent
    ├─ OutcomeUnknown                 completion may have happened; the protocol cannot tell
    ├─ AlreadyUploading               another process has it
    ├─ CredentialsMissing             no key where one was looked for
    ├─ InsecureConnection             TLS failed, or plain http was asked of a real service
    ├─ SomeFailed                     several files were sent, and some did not arrive
    ├─ UploadInterrupted (KeyboardInterrupt)   stopped, and resumable
    └─ UploadCancelled                the user's own doing

Messages name the verb, the part and the host, never a query string or a header:
presigned URLs are passwords.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


class ChunkupError(Exception):
    """The root of every error this package raises on purpose."""


class InvalidUpload(ChunkupError, ValueError):
    """Cannot work as asked. Raised before any request is sent."""


class EmptyFile(InvalidUpload):
    """This provider needs at least one byte."""


class NameNeeded(InvalidUpload, TypeError):
    """Bytes or a stream were given without a file name."""


class SourceError(ChunkupError, OSError):
    """The bytes cannot be read."""


class NotRegularFile(SourceError):
    """A directory, a device, or a pipe whose size cannot be known."""


class SourceChanged(SourceError):
    """The source no longer holds the bytes the upload began with."""


class SourceGone(SourceError):
    """The source went away: the browser tab was closed, the mount was lost."""


class ProviderError(ChunkupError):
    """The server answered, and the answer is no.

    ``status`` is the HTTP status, ``code`` the provider's own error code ("" if
    it gave none), ``request_id`` what its support asks for ("" if it gave none),
    ``host`` the server that answered.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        host: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.host = host


class AuthError(ProviderError):
    """401 or 403: the key is wrong, expired, or lacks a permission.

    ``expired`` says that the same request may work with fresh credentials.
    """

    expired = False


class SessionLost(ProviderError):
    """The server no longer knows this upload; it has to begin anew."""


class ProtocolError(ProviderError):
    """The server's answer makes no sense."""


class Refused(ProviderError):
    """Any other no."""


class Unreachable(ChunkupError):
    """Every attempt at one request failed. ``attempts`` says how many were made."""

    def __init__(self, message: str, *, attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts


class AnswerLost(Unreachable):
    """A request sent with ``once`` may have worked, but its answer never came.

    The transport throws this into the flow that sent it, so that the flow looks
    before it repeats anything. Users meet it only as the cause of another error.
    """


class IntegrityError(ChunkupError):
    """The server holds other bytes than were sent.

    ``final`` says that sending them once more will not help; ``parts`` are the numbers
    of those that are wrong where the rest is sound, empty when nobody can say.
    """

    def __init__(self, message: str, *, final: bool = False, parts: Collection[int] = ()) -> None:
        super().__init__(message)
        self.final = final
        self.parts = frozenset(parts)


class OutcomeUnknown(ChunkupError):
    """Completion may have happened, and the protocol has no way to ask."""


class AlreadyUploading(ChunkupError):
    """Another process is uploading this file to this place.

    ``pid`` is its process id (0 when unknown), ``progress`` a sentence on how far it is.
    """

    def __init__(self, message: str, *, pid: int = 0, progress: str = "") -> None:
        super().__init__(message)
        self.pid = pid
        self.progress = progress


class CredentialsMissing(ChunkupError):
    """No key was found in any of the places where one was looked for."""


class InsecureConnection(ChunkupError):
    """TLS failed, or plain http was asked of something that is not this machine."""


class SomeFailed(ChunkupError):
    """Several files were sent, and some did not arrive.

    ``results`` has a result or an error for each, in order.
    """

    def __init__(self, message: str, results: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.results = results


class UploadInterrupted(ChunkupError, KeyboardInterrupt):
    """The upload was stopped and can be resumed by running the same line again."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a cell: where it was waiting tells nobody anything."""
        return [f"{type(self).__name__}: {self}"]


class UploadCancelled(ChunkupError):
    """The user cancelled the upload; its message says what is left of it, if anything is."""

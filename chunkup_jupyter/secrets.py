"""A value that cannot be shown, stored or pickled; and what a provider asks for."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import NoReturn


class Secret:
    """A key or token. ``reveal()`` is the only way to its text.

    ``repr``, ``str`` and formatting give ``***``; copying gives the same object;
    pickling raises ``TypeError``.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the text itself. Call it where a header or a signature is made, nowhere else."""
        return self.__value

    def identity(self) -> str:
        """Return 12 hex digits that tell two secrets apart and say nothing about either."""
        return hashlib.sha256(b"chunkup:" + self.__value.encode()).hexdigest()[:12]

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash(self.__value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is never pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret is never stored")


@dataclass(frozen=True)
class Need:
    """One value a provider takes from its user's environment.

    ``field`` names the provider's field it fills; ``variables`` are the environment
    variables that may hold it, the first found wins; ``files`` are the key spellings
    in the provider's own configuration file. ``secret`` values become a ``Secret``
    and can never be given as an option. ``required`` values that are found nowhere
    are an error.
    """

    field: str
    variables: tuple[str, ...]
    files: tuple[str, ...] = ()
    secret: bool = True
    required: bool = True

"""Where keys are found: given, environment, the vendor's configuration file, keyring.

Nothing is remembered: look again and a rotated key is found. Messages name places, never
values, not even a part of one.
"""

from __future__ import annotations

import configparser
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from .errors import CredentialsMissing
from .secrets import Need, Secret

_FILE_LIMIT = 1 << 20  # bytes; a larger configuration file is none


class Where(TypedDict, total=False):
    """Where to look; each of these may be left out.

    ``given`` goes first, then ``key_env`` (the environment variable that holds the first
    secret), each need's variables in ``env`` (the process's own when None),
    ``config_file``, and, with ``use_keyring``, the keyring's entries for
    ``chunkup:<service>``.
    """

    config_file: str
    env: Mapping[str, str] | None
    key_env: str | None
    given: Mapping[str, object] | None
    use_keyring: bool
    service: str


def find(needs: Sequence[Need], **where: Unpack[Where]) -> dict[str, Secret | str]:
    """Return values by field name; what is optional and found nowhere is left out.

    The secrets of one provider come from one place, so that an old session token in a
    file never meets a new key from the environment.

    Raises:
        CredentialsMissing: a required value is found nowhere, ``key_env`` is not set, or
            what was found cannot be a key.
    """
    try:
        return _look(needs, **where).values
    except CredentialsMissing as error:
        trouble = str(error)
    # Raised anew, out here: the frames below hold keys as plain text.
    raise CredentialsMissing(trouble)


def located(needs: Sequence[Need], **where: Unpack[Where]) -> dict[str, str]:
    """Return where each field was found, "" for nowhere: names only, for badges and reports.

    A place is an environment variable, the configuration file's path, ``keyring`` or
    ``given``. Raises nothing.
    """
    try:
        places = _look(needs, strict=False, **where).places
    except CredentialsMissing:
        places = {}
    return {need.field: places.get(need.field, "") for need in needs}


@dataclass(frozen=True)
class _Found:
    values: dict[str, Secret | str]
    places: dict[str, str]


_Place = dict[str, tuple[str, str]]
"""What one place holds: field -> (value, how the place is called)."""


def _look(
    needs: Sequence[Need],
    *,
    config_file: str = "",
    env: Mapping[str, str] | None = None,
    key_env: str | None = None,
    given: Mapping[str, object] | None = None,
    use_keyring: bool = True,
    service: str = "",
    strict: bool = True,
) -> _Found:
    env = os.environ if env is None else env
    first = _given(needs, given or {})
    if key_env is not None:
        first = {**_named(needs, env, key_env), **first}
    variables = _environment(needs, env)
    file, trouble = _file(needs, config_file)
    places = [variables, file]
    if use_keyring and not _complete(needs, [first, variables, file]):
        places.append(_keyring(needs, service))

    chosen = dict(first)
    whole = next((place for place in places if _complete(needs, [first, place])), None)
    secret_places = places if whole is None else [whole]
    if _complete(needs, [first]):
        secret_places = []  # an optional token elsewhere belongs to another key
    for need in needs:
        for place in secret_places if need.secret else places:
            if need.field in place:
                chosen.setdefault(need.field, place[need.field])

    missing = [need for need in needs if need.required and need.field not in chosen]
    if missing and strict:
        raise CredentialsMissing(
            _message(missing, needs, config_file, trouble, use_keyring, service)
        )
    values: dict[str, Secret | str] = {}
    for need in needs:
        if need.field in chosen:
            text, where = chosen[need.field]
            _check(need, text, where)
            values[need.field] = Secret(text) if need.secret else text
    return _Found(values, {field: place for field, (_, place) in chosen.items()})


def _complete(needs: Sequence[Need], places: Sequence[_Place]) -> bool:
    """Say whether these places together hold a secret, and all secrets that are required."""
    secrets = [need for need in needs if need.secret]
    found = [need for need in secrets if any(need.field in place for place in places)]
    return bool(found) and all(need in found for need in secrets if need.required)


def _given(needs: Sequence[Need], given: Mapping[str, object]) -> _Place:
    found: _Place = {}
    for need in needs:
        value = given.get(need.field)
        text = value.reveal() if isinstance(value, Secret) else value
        if isinstance(text, str) and (text := _tidy(text)):
            found[need.field] = text, "given"
    return found


def _named(needs: Sequence[Need], env: Mapping[str, str], name: str) -> _Place:
    need = next((need for need in needs if need.secret), None)
    if need is None:
        return {}
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        # It may be the key itself, so it is not shown.
        raise CredentialsMissing("key_env takes the name of an environment variable, not a key")
    text = _tidy(env.get(name, ""))
    if not text:
        raise CredentialsMissing(f"the environment variable {name} is not set, or is empty")
    return {need.field: (text, name)}


def _environment(needs: Sequence[Need], env: Mapping[str, str]) -> _Place:
    found: _Place = {}
    for need in needs:
        for name in need.variables:
            if text := _tidy(env.get(name, "")):
                found[need.field] = text, name
                break
    return found


def _file(needs: Sequence[Need], spelled: str) -> tuple[_Place, str]:
    """Return what a vendor's ini file holds, and "" or why it could not be read.

    ossutil 1 writes ``[Credentials]``, ossutil 2 ``[default]`` and ``[profile NAME]``; a
    profile other than the default is taken only when it is the only one. Names are
    compared without regard to case, ``-`` and ``_``, which both tools spell in many ways.
    """
    if not spelled:
        return {}, ""
    try:
        path = Path(spelled).expanduser()
        if not path.exists():
            return {}, ""
        if path.stat().st_size > _FILE_LIMIT:
            return {}, f"{spelled} is too large for a configuration file"
        text = path.read_bytes().decode("utf-8-sig")
    except PermissionError:
        return {}, f"{spelled} may not be read: permission denied"
    except (OSError, RuntimeError) as error:
        return {}, f"{spelled} cannot be read: {getattr(error, 'strerror', None) or error}"
    except UnicodeDecodeError:
        return {}, f"{spelled} is not UTF-8 text"
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, default_section="\0", allow_no_value=True
    )
    try:
        parser.read_string(text)
    except configparser.Error:
        # The parser's own message quotes the line, which may hold a key.
        return {}, f"{spelled} is no ini file"
    section = _section(parser)
    values = {} if section is None else {_plain(k): v for k, v in parser[section].items() if v}
    found: _Place = {}
    for need in needs:
        for name in need.files:
            if text := _tidy(values.get(_plain(name), "")):
                found[need.field] = text, spelled
                break
    return found, ""


def _section(parser: configparser.ConfigParser) -> str | None:
    names = {" ".join(name.split()).lower(): name for name in parser.sections()}
    for known in ("default", "profile default", "credentials"):
        if known in names:
            return names[known]
    profiles = [name for plain, name in names.items() if plain.startswith("profile ")]
    return profiles[0] if len(profiles) == 1 else None


def _keyring(needs: Sequence[Need], service: str) -> _Place:
    """Return what the optional keyring holds. It fails in many ways, and none of them matters."""
    found: _Place = {}
    try:
        keyring = importlib.import_module("keyring")
        for need in needs:
            if need.secret:
                text = keyring.get_password(f"chunkup:{service}", need.field)
                if isinstance(text, str) and (text := _tidy(text)):
                    found[need.field] = text, "keyring"
    except Exception:
        return {}
    return found


def _tidy(text: str) -> str:
    """Return a value without surrounding blanks and one pair of quotes, as copying leaves them."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def _check(need: Need, text: str, place: str) -> None:
    if need.secret and not text.isascii():
        kind = "a character that is in no key (a dash or a quote made pretty when copied?)"
    elif re.search(r"[\x00-\x1f\x7f]", text):
        kind = "a line break or another control character in its middle"
    elif need.secret and " " in text:
        kind = "a blank in its middle"
    else:
        return
    where = (
        f"the {need.field} that was given" if place == "given" else f"the {need.field} in {place}"
    )
    raise CredentialsMissing(f"{where} has {kind}; copy it again")


def _message(
    missing: Sequence[Need],
    needs: Sequence[Need],
    config_file: str,
    trouble: str,
    use_keyring: bool,
    service: str,
) -> str:
    names = " and ".join(" or ".join(need.variables) or need.field for need in missing)
    looked = ["the environment"]
    if config_file:
        looked.append(config_file)
    if use_keyring:
        looked.append(f"the keyring (chunkup:{service})")
    text = f"{names} not found; looked in {', '.join(looked)}"
    if trouble:
        text += f" ({trouble})"
    text += f". Set {missing[0].variables[0] if missing[0].variables else missing[0].field}"
    if any(need.secret for need in missing):
        text += ", or use --ask-key to type it, --key-env NAME for another variable"
    return text + ", or --sandbox to try without an account"


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")

"""Keys are found where people keep them, and shown nowhere."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from chunkup_jupyter.credentials import find, located
from chunkup_jupyter.errors import CredentialsMissing
from chunkup_jupyter.secrets import Need, Secret

CANARY = "canary-0123456789-secret"

ONE = (
    Need("api_key", ("FIRST_KEY", "SECOND_KEY")),
    Need("base_url", ("BASE_URL",), secret=False, required=False),
)
PAIR = (
    Need("key_id", ("KEY_ID",), ("accessKeyID", "access_key_id")),
    Need("key_secret", ("KEY_SECRET",), ("accessKeySecret", "access_key_secret")),
    Need("token", ("TOKEN",), ("stsToken",), required=False),
    Need("region", ("REGION",), ("region",), secret=False, required=False),
)
EITHER = (
    Need("api_key", ("API_KEY",), required=False),
    Need("ad_token", ("AD_TOKEN",), required=False),
    Need("endpoint", ("ENDPOINT",), secret=False),
)


def plain(found: dict[str, Secret | str]) -> dict[str, str]:
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in found.items()
    }


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text("[Credentials]\nlanguage=EN\naccessKeyID=id\naccessKeySecret=secret\n")
    return path


def with_keyring(monkeypatch: pytest.MonkeyPatch, entries: dict[tuple[str, str], str]) -> None:
    module = types.ModuleType("keyring")
    module.get_password = lambda service, name: entries.get((service, name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)


# -- environment


def test_a_key_comes_from_the_environment_as_a_secret() -> None:
    found = find(ONE, env={"FIRST_KEY": CANARY, "BASE_URL": "https://x"})

    assert isinstance(found["api_key"], Secret)
    assert plain(found) == {"api_key": CANARY, "base_url": "https://x"}
    assert CANARY not in repr(found)


def test_the_first_variable_wins_and_an_empty_one_is_not_set() -> None:
    assert plain(find(ONE, env={"SECOND_KEY": "b", "FIRST_KEY": "a"})) == {"api_key": "a"}
    assert plain(find(ONE, env={"FIRST_KEY": "  ", "SECOND_KEY": "b"})) == {"api_key": "b"}


def test_the_process_environment_is_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", "old")
    assert plain(find(ONE)) == {"api_key": "old"}
    monkeypatch.setenv("FIRST_KEY", "rotated")
    assert plain(find(ONE)) == {"api_key": "rotated"}


@pytest.mark.parametrize("text", [" k\n", '"k"', "'k'", "\tk ", '" k "'])
def test_blanks_and_quotes_around_a_key_are_dropped(text: str) -> None:
    assert plain(find(ONE, env={"FIRST_KEY": text})) == {"api_key": "k"}


@pytest.mark.parametrize("odd", ["\n", "\r", "\x00", "\x7f", " ", "\u2013", "\u200b"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(odd: str) -> None:
    with pytest.raises(CredentialsMissing, match="FIRST_KEY") as caught:
        find(ONE, env={"FIRST_KEY": f"canary{odd}secret"})

    assert "canary" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_found_names_every_place_and_the_ways_out(config: Path) -> None:
    with pytest.raises(CredentialsMissing) as caught:
        find(ONE, env={}, config_file="~/.nowhere", service="openai")

    for word in ("FIRST_KEY or SECOND_KEY", "~/.nowhere", "chunkup:openai", "--ask-key"):
        assert word in str(caught.value)
    assert "--key-env NAME" in str(caught.value)
    assert "--sandbox" in str(caught.value)


def test_a_setting_that_is_missing_offers_no_key_prompt() -> None:
    with pytest.raises(CredentialsMissing, match="ENDPOINT not found") as caught:
        find(EITHER, env={"API_KEY": "k"})

    assert "--ask-key" not in str(caught.value)


def test_of_two_optional_keys_one_will_do() -> None:
    env = {"AD_TOKEN": "t", "ENDPOINT": "e"}

    assert plain(find(EITHER, env=env)) == {"ad_token": "t", "endpoint": "e"}


# -- given


def test_what_is_given_goes_first() -> None:
    env = {"FIRST_KEY": "env"}

    assert plain(find(ONE, env=env, given={"api_key": Secret("given")})) == {"api_key": "given"}
    assert plain(find(ONE, env=env, given={"api_key": "text"})) == {"api_key": "text"}
    assert plain(find(ONE, env=env, given={"api_key": None, "other": 5})) == {"api_key": "env"}


def test_a_variable_can_be_named() -> None:
    env = {"FIRST_KEY": "usual", "WORK_KEY": "work"}

    assert plain(find(ONE, env=env, key_env="WORK_KEY")) == {"api_key": "work"}


def test_a_named_variable_that_is_not_set_is_an_error_not_another_key() -> None:
    with pytest.raises(CredentialsMissing, match="WORK_KEY is not set"):
        find(ONE, env={"FIRST_KEY": "usual"}, key_env="WORK_KEY")


def test_a_key_in_the_place_of_a_name_is_not_shown() -> None:
    with pytest.raises(CredentialsMissing, match="the name of an environment") as caught:
        find(ONE, env={}, key_env=CANARY)

    assert CANARY not in str(caught.value)


# -- the configuration file


@pytest.mark.parametrize(
    "text",
    [
        "[Credentials]\naccessKeyID=id\naccessKeySecret=secret\nregion=r\n",
        "[credentials]\nAccessKeyId = id\nACCESS_KEY_SECRET = secret\nregion = r\n",
        "[default]\naccess-key-id=id\naccess-key-secret='secret'\nregion=r\n[profile x]\nregion=n",
        "\ufeff[profile work]\r\naccess_key_id=id\r\naccess_key_secret=secret\r\nregion=r\r\n",
        "[default]\naccessKeyID=old\naccessKeyID=id\naccessKeySecret=secret\nregion=r\nodd line\n",
    ],
    ids=["version 1", "other spellings", "version 2", "the only profile", "repeated"],
)
def test_configuration_files_of_all_versions_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text, encoding="utf-8")

    found = find(PAIR, env={}, config_file=str(tmp_path / "config"))

    assert plain(found) == {"key_id": "id", "key_secret": "secret", "region": "r"}


def test_percent_signs_in_a_secret_stay(config: Path) -> None:
    config.write_text("[Credentials]\naccessKeyID=id\naccessKeySecret=a%b%(c)s\n")

    assert plain(find(PAIR, env={}, config_file=str(config)))["key_secret"] == "a%b%(c)s"


def test_the_home_folder_is_expanded(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(config.parent))

    assert plain(find(PAIR, env={}, config_file="~/config"))["key_id"] == "id"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"accessKeySecret={CANARY}\n".encode(), "no ini file"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"x" * (1 << 21), "too large"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_note_without_its_content(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "config").write_bytes(content)

    with pytest.raises(CredentialsMissing, match=reason) as caught:
        find(PAIR, env={}, config_file=str(tmp_path / "config"))
    assert CANARY not in str(caught.value)
    env = {"KEY_ID": "a", "KEY_SECRET": "b"}
    assert plain(find(PAIR, env=env, config_file=str(tmp_path / "config")))["key_id"] == "a"


def test_a_file_that_may_not_be_read_is_a_note(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:  # root may read everything, so the mode will not do
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(CredentialsMissing, match="permission denied"):
        find(PAIR, env={}, config_file=str(config))


def test_secrets_of_one_provider_come_from_one_place(config: Path) -> None:
    """An old token in the file would make a good key from the environment fail."""
    config.write_text(
        "[Credentials]\naccessKeyID=old\naccessKeySecret=old\nstsToken=old\nregion=r\n"
    )
    env = {"KEY_ID": "new", "KEY_SECRET": "new"}

    found = plain(find(PAIR, env=env, config_file=str(config)))

    assert found == {"key_id": "new", "key_secret": "new", "region": "r"}
    half = plain(find(PAIR, env={"KEY_ID": "new"}, config_file=str(config)))
    assert (half["key_id"], half["key_secret"], half["token"]) == ("old", "old", "old")
    given = {"key_id": "given", "key_secret": "given"}
    assert "token" not in find(PAIR, env={}, config_file=str(config), given=given)


# -- keyring


def test_the_keyring_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keyring(monkeypatch, {("chunkup:openai", "api_key"): "ring"})

    assert plain(find(ONE, env={}, service="openai")) == {"api_key": "ring"}
    assert plain(find(ONE, env={"FIRST_KEY": "env"}, service="openai")) == {"api_key": "env"}
    with pytest.raises(CredentialsMissing):
        find(ONE, env={}, service="openai", use_keyring=False)


def test_a_broken_keyring_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("keyring")

    def fail(service: str, name: str) -> str:
        raise RuntimeError("no backend")

    module.get_password = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)

    with pytest.raises(CredentialsMissing, match="FIRST_KEY"):
        find(ONE, env={}, service="openai")


def test_a_key_that_was_found_spares_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask the user for a password."""
    asked: list[str] = []
    module = types.ModuleType("keyring")
    module.get_password = lambda service, name: asked.append(name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)

    find(PAIR, env={"KEY_ID": "a", "KEY_SECRET": "b"}, service="oss")
    find(EITHER, env={"API_KEY": "a", "ENDPOINT": "e"}, service="azure-openai")

    assert asked == []


# -- where


def test_places_are_told_by_name_only(config: Path) -> None:
    places = located(PAIR, env={"REGION": "r"}, config_file=str(config))

    assert places == {
        "key_id": str(config),
        "key_secret": str(config),
        "token": "",
        "region": "REGION",
    }
    assert located(ONE, env={"SECOND_KEY": CANARY}) == {"api_key": "SECOND_KEY", "base_url": ""}


def test_places_of_what_is_missing_or_broken_are_empty() -> None:
    assert located(ONE, env={}) == {"api_key": "", "base_url": ""}
    assert located(ONE, env={"FIRST_KEY": "a\nb"}) == {"api_key": "", "base_url": ""}
    assert located(ONE, env={}, key_env="NOT_SET") == {"api_key": "", "base_url": ""}


def test_the_named_variable_is_the_place() -> None:
    assert located(ONE, env={"WORK": "k"}, key_env="WORK")["api_key"] == "WORK"


def test_nothing_here_reads_a_bare_api_key() -> None:
    """Other programs' examples use that name for keys of every kind."""
    from importlib.metadata import entry_points

    for point in entry_points(group="chunkup_jupyter.providers"):
        for need in point.load().needs:
            assert "API_KEY" not in need.variables

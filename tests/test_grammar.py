"""One line, understood the same in a cell and in a shell."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import __version__, providers, units
from chunkup_jupyter.model import Provider, option
from chunkup_jupyter.ui import options, parsers
from chunkup_jupyter.ui.grammar import BadLine, HelpAsked, Line, parse, words


def refused(line: str) -> str:
    with pytest.raises(BadLine) as caught:
        parse(line)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.txt openai:batch", ["a.txt", "openai:batch"]),
        ("'my file.bin' x:y", ["my file.bin", "x:y"]),
        ('"my file.bin" x:y;', ["my file.bin", "x:y"]),
        (r"my\ file.bin x:y ;", ["my file.bin", "x:y"]),
        ("a x:y # it's a comment", ["a", "x:y"]),
        ("a#1.txt x:y", ["a#1.txt", "x:y"]),
        ("'a # b' x:y", ["a # b", "x:y"]),
        ("'a;' x:y", ["a;", "x:y"]),
        ("# nothing", []),
    ],
)
def test_a_line_is_split_as_a_shell_splits_it(line: str, expected: list[str]) -> None:
    assert words(line, posix=True) == expected


def test_on_windows_backslashes_stay_and_quotes_go() -> None:
    assert words(r'"C:\my data\a.bin" openai:batch', posix=False) == [
        r"C:\my data\a.bin",
        "openai:batch",
    ]


def test_an_open_quotation_is_no_line() -> None:
    assert "quotation" in refused("'a openai:batch")


def test_sources_come_before_the_destination() -> None:
    line = parse("a.jsonl -j 8 b.jsonl openai:batch --part-size 16M")

    assert (line.sources, line.dest) == (("a.jsonl", "b.jsonl"), "openai:batch")
    assert (line.jobs, line.part_size) == (8, 16 << 20)


def test_the_number_of_jobs_may_be_left_to_us() -> None:
    assert parse("a.jsonl openai:batch --jobs auto").jobs is None


def test_a_limit_is_a_size_a_second() -> None:
    assert parse("a.jsonl openai:batch --bwlimit 10M").bwlimit == 10 << 20
    assert parse("a.jsonl openai:batch --bwlimit 0").bwlimit == 0
    assert parse("a.jsonl openai:batch").bwlimit is None
    assert "no size" in refused("a.jsonl openai:batch --bwlimit fast")


def test_folders_and_patterns_bring_their_choices() -> None:
    line = parse("-r data '*.csv' oss://bucket/dir/ --include '*.csv' --include=a --exclude x")

    assert line.sources == ("data", "*.csv")
    assert line.choices() == {
        "recursive": True, "include": ("*.csv", "a"), "exclude": ("x",), "files": 2,
    }  # fmt: skip
    assert "--name is for one file" in refused("-r data oss://bucket/dir/ --name x")


def test_what_follows_two_dashes_is_no_option() -> None:
    line = parse("-n -- -x.txt openai:batch")

    assert (line.sources, line.dest, line.dry_run) == (("-x.txt",), "openai:batch", True)


def test_the_version_can_be_asked_for() -> None:
    for flag in ("-V", "--version"):
        with pytest.raises(HelpAsked, match=rf"chunkup {__version__}"):
            parse(flag)


def test_the_last_word_is_the_destination_whatever_the_first_looks_like() -> None:
    line = parse("s3://from/a.bin oss://from/b.bin https://host/c?x=1 oss://bucket/dir/")

    assert line.sources == ("s3://from/a.bin", "oss://from/b.bin", "https://host/c?x=1")
    assert line.dest == "oss://bucket/dir/"
    assert "no provider is called 's3'" in refused("a.bin s3://bucket/key")


def test_a_drive_letter_is_no_scheme() -> None:
    line = parse(["C:\\data\\a.jsonl", "openai:batch"])

    assert (line.sources, line.dest) == (("C:\\data\\a.jsonl",), "openai:batch")


def test_a_path_with_a_drive_letter_is_called_no_provider() -> None:
    with pytest.raises(BadLine, match="is no destination"):
        parse(["a.jsonl", "C:\\data"])


def test_an_options_value_with_a_scheme_is_no_destination() -> None:
    line = parse("a.bin oss://bucket/key --meta source=oss:x --tagging openai:x=1")

    assert line.dest == "oss://bucket/key"
    assert line.fields["meta"] == {"source": "oss:x"}


@pytest.mark.parametrize(
    "spelled",
    [
        "--chunk-size 16777216",
        "--block-size=16M",
        "--part-size 16MiB",
    ],
)
def test_other_tools_names_of_an_option_are_understood(spelled: str) -> None:
    assert parse(f"a openai:batch {spelled}").part_size == 16 << 20


def test_every_alias_means_what_it_says() -> None:
    line = parse(
        "a openai:batch --parallel 3 --mime-type text/plain --no-resume --plan --background"
    )

    assert line.jobs == 3
    assert line.media_type == "text/plain"
    assert line.fresh
    assert line.dry_run
    assert line.detach
    assert not parse("a openai:batch -b --wait").detach


def test_what_the_user_did_not_say_comes_from_the_settings() -> None:
    settings = {"jobs": 2, "sandbox": True, "check": False}

    line = parse("a openai:batch -j 8 --no-sandbox").settle(settings)

    assert (line.jobs, line.sandbox, line.check) == (8, False, False)


def test_a_provider_brings_its_own_options() -> None:
    line = parse("a.tar oss://bucket/key --region cn-hangzhou --meta a=1 --meta b=2 --no-clobber")

    assert line.fields["region"] == "cn-hangzhou"
    assert line.fields["meta"] == {"a": "1", "b": "2"}
    assert line.fields["no_clobber"] is True


def test_an_option_of_another_provider_is_not_taken() -> None:
    assert "no option --hls" in refused("a.tar oss://bucket/key --hls")


def test_an_options_own_sentence_is_kept() -> None:
    assert "no size" in refused("a openai:batch --part-size lots")
    for jobs in ("0", "65", "abc"):
        said = f"--jobs: '{jobs}' is neither a number from 1 to 64 nor auto"
        assert refused(f"a openai:batch -j {jobs}") == said
    # Python 3.14 takes it for a value, the others for an option.
    said = refused("a openai:batch --part-size -4M")
    assert said == "--part-size: a value is missing" or "--part-size: '-4M' is no size" in said


def test_a_new_provider_needs_no_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Shelf(Provider):
        title = "Shelf"
        form = "shelf:BOARD"
        depth: int = option(1, help="how deep", parse=int, aliases=("how-deep",))
        soft: bool = option(False, help="soft", toggle=True)
        jobs: int = option(1, help="never reached: the common option comes first")

    real = providers.load
    monkeypatch.setattr(providers, "schemes", lambda: ["openai", "shelf"])
    monkeypatch.setattr(
        providers, "load", lambda url: Shelf if url.startswith("shelf:") else real(url)
    )

    line = parse("a shelf:top --how-deep 3 --soft -j 2")

    assert line.fields == {"depth": 3, "soft": True}
    assert line.jobs == 2
    assert "shelf:BOARD" in parsers.help_text()
    assert "--depth" in parsers.help_text("shelf")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "SOURCE DEST"),
        ("train.jsonl", "say where train.jsonl goes"),
        ("openai:batch", "which file goes to"),
        ("a b", "is no destination"),
        ("a opnai:batch", "did you mean openai?"),
        ("lst", "did you mean list?"),
        ("openai:batch a.jsonl", "the destination comes last: a.jsonl openai:batch"),
        ("a openai:batch --region cn", "no option --region here; it belongs to oss"),
        ("it's.csv openai:batch", "stands in double quotes"),
        ("clean", "say how old"),
        ("doctor extra", "doctor knows azure-openai, openai, oss, twelvelabs"),
        ("a openai:batch --job 3", "did you mean --jobs?"),
        ("a b openai:batch --name c", "--name is for one file"),
        ("a openai:batch --verify maybe", "invalid choice"),
        ("a openai:batch -o 'my name'", "variable's name"),
        ("a oss://b/k --meta broken", "KEY=VALUE"),
        ("show", "show what"),
        ("pause 1 2", "one word at most"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(line: str, said: str) -> None:
    assert said in refused(line)


@pytest.mark.parametrize(
    "option", ["--api-key", "--key", "--api_key", "--access-key-secret", "--token"]
)
@pytest.mark.parametrize("join", [" ", "="])
def test_a_key_on_the_line_is_refused_and_never_repeated(option: str, join: str) -> None:
    message = refused(f"a openai:batch {option}{join}sk-canary")

    assert "--key-env" in message
    assert "--ask-key" in message
    assert "sk-canary" not in message


def test_an_unknown_options_value_is_never_repeated() -> None:
    assert "sk-canary" not in refused("a openai:batch --apikye=sk-canary")
    assert "sk-canary" not in refused("a openai:batch --apikye sk-canary")


def test_the_first_word_decides_whether_it_is_a_verb() -> None:
    assert parse("list").verb == "list"
    assert parse("./list openai:batch").sources == ("./list",)
    assert parse("clean --older-than 2d --dry-run") == Line(
        verb="clean",
        older_than=172800,
        dry_run=True,
        given=frozenset({"older_than", "dry_run"}),
    )


def test_a_verb_on_a_destination_takes_its_providers_options() -> None:
    line = parse("orphans oss://bucket/ --region cn-hangzhou --sandbox")

    assert (line.words, line.fields) == (("oss://bucket/",), {"region": "cn-hangzhou"})
    assert line.sandbox


def test_the_sandbox_verb_keeps_its_words_for_itself() -> None:
    assert parse("sandbox openai --port 8000 --key-from-env").words == (
        "openai",
        "--port",
        "8000",
        "--key-from-env",
    )


def test_help_shows_every_providers_options_in_a_group_of_its_name() -> None:
    with pytest.raises(HelpAsked) as asked:
        parse("a openai:batch --help")

    text = str(asked.value)
    assert text == parsers.help_text()
    for scheme in providers.schemes():
        assert f"\n{scheme}:\n" in text
    for flag in ("--jobs", "--expires-after", "--storage-class", "--thumbnail"):
        assert flag in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("verb", [verb for verb in options.VERBS if verb != "sandbox"])
def test_every_verb_takes_help(verb: str) -> None:
    with pytest.raises(HelpAsked) as asked:
        parse(f"{verb} --help")

    assert f"chunkup {verb}" in str(asked.value)


def test_a_broken_plugin_does_not_take_the_help_away(monkeypatch: pytest.MonkeyPatch) -> None:
    real = providers.load

    def load(url: str) -> Any:
        if url.startswith("broken:"):
            raise ImportError("no module named gone")
        return real(url)

    monkeypatch.setattr(providers, "schemes", lambda: ["broken", "openai"])
    monkeypatch.setattr(providers, "load", load)

    assert "openai:" in parsers.help_text()


@given(st.integers(1, 1 << 40) | st.integers(1, 1 << 20).map(lambda n: n << 10))
def test_a_size_is_told_again_as_it_is_written(size: int) -> None:
    assert units.parse_size(units.written(size)) == size
    assert parse("a openai:batch --part-size 4M").arguments()["part_size"] == "4M"


def test_what_start_takes_is_what_the_line_gives() -> None:
    """Every argument made from a line is one of ``jobs.start``, or a provider's field."""
    import inspect

    from chunkup_jupyter import jobs

    line = parse("a openai:batch --expires-after 7d")
    known = set(inspect.signature(jobs.start).parameters)

    assert set(line.arguments()) - known == {"expires_after"}
    assert line.fields == {"expires_after": 7 * 86400}

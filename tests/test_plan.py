"""Parts tile the file exactly and obey the rules; what is missing is what is not held."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import plan, units
from chunkup_jupyter.errors import EmptyFile, InvalidUpload
from chunkup_jupyter.model import FileInfo, PartReceipt, Rules, Session

MIB = 1 << 20
OSS = Rules(min_part=102_400, max_part=5 << 30, max_parts=10_000)

rules = st.builds(
    Rules,
    min_part=st.integers(1, 50),
    max_part=st.integers(64, 500),
    max_parts=st.integers(1, 40),
    multiple=st.sampled_from((1, 4, 16)),
)


def session(size: int, part_size: int) -> Session:
    return Session("id", FileInfo("f", size), part_size)


@given(size=st.integers(0, 20_000), preferred=st.integers(0, 700), rules=rules)
def test_a_chosen_part_size_is_legal_or_refused_for_a_reason(size, preferred, rules):
    try:
        chosen = plan.choose_part_size(size, preferred, rules)
    except InvalidUpload:
        largest = rules.max_part - rules.max_part % rules.multiple
        assert plan.count(size, largest) > rules.max_parts or largest < rules.min_part
    else:
        assert rules.min_part <= chosen <= rules.max_part
        assert chosen % rules.multiple == 0
        assert plan.count(size, chosen) <= rules.max_parts


@given(size=st.integers(0, 5_000), part_size=st.integers(1, 600))
def test_parts_tile_the_file(size, part_size):
    parts = list(plan.parts(session(size, part_size)))

    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert sum(part.size for part in parts) == size
    assert all(a.start + a.size == b.start for a, b in pairwise(parts))
    assert all(part.size == part_size for part in parts[:-1])
    assert len(parts) == max(1, -(-size // part_size)), "no empty last part"


def test_a_part_of_another_size_or_number_does_not_fit():
    opened = session(10, 4)

    assert not plan.fits(PartReceipt(3, 4), opened)
    assert plan.fits(PartReceipt(3, 2), opened)
    assert not plan.fits(PartReceipt(4, 2), opened)


def test_ten_thousand_parts_always_suffice():
    for size in (10_000 * 16 * MIB, 10_000 * 16 * MIB + 1, 1 << 44, 10_000 * (5 << 30)):
        chosen = plan.choose_part_size(size, 16 * MIB, OSS)
        assert plan.count(size, chosen) <= 10_000

    assert plan.choose_part_size(10_000 * 16 * MIB, 16 * MIB, OSS) == 16 * MIB
    assert plan.choose_part_size(10_000 * 16 * MIB + 1, 16 * MIB, OSS) == 17 * MIB
    with pytest.raises(InvalidUpload, match="do not fit"):
        plan.choose_part_size(10_000 * (5 << 30) + 1, 16 * MIB, OSS)


@pytest.mark.parametrize(
    ("asked", "why"),
    [(1000, "too small"), (6 << 30, "too large"), (200_000, "too many"), (0, "at least one byte")],
)
def test_a_part_size_the_provider_would_refuse_is_refused_here(asked, why):
    with pytest.raises(InvalidUpload, match=why):
        plan.check_part_size(asked, 1 << 40, OSS)


def test_a_server_that_decides_takes_no_part_size():
    with pytest.raises(InvalidUpload, match="server decides"):
        plan.check_part_size(MIB, MIB, Rules(server_decides=True))


def test_a_size_no_provider_takes_is_refused_and_a_disputed_one_warned_of():
    limits = Rules(min_size=1, max_size=100, advised_max=50, advice="may be refused")

    with pytest.raises(EmptyFile):
        plan.check_size(FileInfo("f", 0), limits)
    with pytest.raises(InvalidUpload, match="the most"):
        plan.check_size(FileInfo("f", 101), limits)
    assert plan.check_size(FileInfo("f", 51), limits) == ("may be refused",)
    assert plan.check_size(FileInfo("f", 50), limits) == ()


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (16 * MIB, "16 MiB"),
        (16_000_000, "16 MB"),
        (3 * MIB // 2, "1.5 MiB"),
        (102_400, "100 KiB"),
        (10_000 * (5 << 30), "48.8 TiB"),
        (10**10, "10 GB"),
        (60_123_456, "60.1 MB"),
        (999, "999 B"),
        (0, "0 B"),
    ],
)
def test_a_part_size_or_limit_is_told_in_the_unit_it_was_chosen_in(n, text):
    assert units.chosen(n) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16M", 16 * MIB),
        ("16m", 16 * MIB),
        ("16Mi", 16 * MIB),
        ("16 MiB", 16 * MIB),
        ("16MB", 16_000_000),
        ("100 KB", 100_000),
        ("16,000,000", 16_000_000),
        (16e6, 16_000_000),
        ("1.5G", 3 << 29),
        ("64", 64),
    ],
)
def test_a_size_is_read_as_it_is_typed(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "16X", "-4M", "1,5M", "1e6", "16 i", float("nan")])
def test_what_is_no_size_is_refused_with_what_is(text):
    with pytest.raises(ValueError, match="write bytes, or 512K"):
        units.parse_size(text)


def test_a_plan_says_how_the_file_is_cut():
    def made(size, part_size):
        return plan.Plan(FileInfo("f", size), "openai:batch", part_size, 4).cut

    assert made(60 * 10**6, 16 * 10**6) == "4 parts of 16 MB"
    assert made(60 * 10**6, 5 << 30) == made(0, 16 * MIB) == "1 part"


def test_a_refusal_speaks_in_the_units_of_the_plan():
    with pytest.raises(
        InvalidUpload, match=r"f has 6 TB \(6,000,000,000,000 bytes\).* takes is 8 GiB"
    ):
        plan.check_size(FileInfo("f", 6 * 10**12), Rules(max_size=8 << 30))
    with pytest.raises(InvalidUpload, match="parts of 1 kB are too small; the least is 100 KiB"):
        plan.check_part_size(1000, 1 << 40, OSS)
    with pytest.raises(InvalidUpload, match="so --part-size 105M or more"):
        plan.check_part_size(200_000, 1 << 40, OSS)

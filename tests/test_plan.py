"""Parts tile the file exactly and obey the rules; what is missing is what is not held."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkup_jupyter import plan
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

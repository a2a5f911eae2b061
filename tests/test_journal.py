"""What was reported durable is found again, whatever happens; nobody else meanwhile writes."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chunkup_jupyter import journal
from chunkup_jupyter.errors import AlreadyUploading, InvalidUpload
from chunkup_jupyter.events import PartDone, Restarted, Started
from chunkup_jupyter.journal import (
    Acknowledged,
    Creating,
    Journal,
    Key,
    MemoryLines,
    lines,
    locks,
    open_journal,
    records,
    unfinished,
)
from chunkup_jupyter.journal.ledger import Entry, Ledger
from chunkup_jupyter.journal.lines import FileLines, System
from chunkup_jupyter.model import FileInfo, PartReceipt, Session

KEY = Key("oss://bucket/film.mp4", "account", "path:/home/me/film.mp4")
SESSION = Session("upload-1", FileInfo("film.mp4", 95), 10, {"bucket": "b"}, 2_000_000_000.0)
SOURCE = {"spelled": "film.mp4", "name": "film.mp4", "size": 95, "fingerprint": "stat:1-2-3"}


def part(number: int) -> PartDone:
    return PartDone(PartReceipt(number, 10, f'"etag-{number}"', f"crc64:{number}"), number << 50)


def record(journal: Journal, *records: Any) -> None:
    async def main() -> None:
        for one in records:
            await journal.write(one)

    asyncio.run(main())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def the_file(folder: Path) -> Path:
    return folder / "journals" / f"{KEY.id}.jsonl"


# -- replay


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    before = open_journal(folder, KEY, source=SOURCE)
    record(before, Creating(), Started(SESSION), part(1), part(3), Acknowledged((1, 3)))
    before.close()

    past = open_journal(folder, KEY).replay()

    assert past.session == SESSION
    assert past.parts == {1: part(1), 3: part(3)}
    assert past.acknowledged == {1, 3}
    assert past.source == SOURCE
    assert not past.creating
    assert time.time() - past.started_at < 100


def test_a_state_folder_of_nobody_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNKUP_STATE", "~nobody-of-this-name/state")

    assert journal.default_folder().name == "state"


def test_a_new_journal_knows_nothing(folder: Path) -> None:
    past = open_journal(folder, KEY, source=SOURCE).replay()

    assert (past.session, past.parts, past.creating, past.source) == (None, {}, False, SOURCE)
    assert list(folder.rglob("*.jsonl")) == []


def test_a_crash_while_creating_is_told(folder: Path) -> None:
    before = open_journal(folder, KEY)
    record(before, Creating())
    before.close()

    assert open_journal(folder, KEY).replay().creating


def test_a_restart_forgets_the_old_session_and_says_what_the_file_is_now(folder: Path) -> None:
    before = open_journal(folder, KEY, source=SOURCE)
    record(before, Started(SESSION), part(1), Acknowledged((1,)))
    before.close()
    changed = {**SOURCE, "fingerprint": "stat:9-9-9"}

    after = open_journal(folder, KEY, source=changed)
    record(after, Restarted("the file changed"))
    after.close()
    past = open_journal(folder, KEY).replay()

    assert (past.session, past.parts, past.acknowledged) == (None, {}, frozenset())
    assert past.source == changed


def test_where_no_session_came_about_todays_words_count(folder: Path) -> None:
    """A first try with the wrong key must not be what a later one is resumed by."""
    before = open_journal(folder, KEY, source={**SOURCE, "words": ["--key-env WRONG"]})
    record(before, Creating())
    before.close()

    after = open_journal(folder, KEY, source={**SOURCE, "words": ["--key-env RIGHT"]})
    record(after, Creating(), Started(SESSION), part(1))
    after.close()
    (one,) = unfinished(folder)

    assert one.source["words"] == ["--key-env RIGHT"]
    assert (one.session, one.numbers) == (SESSION, {1})


def test_another_session_does_not_inherit_parts(folder: Path) -> None:
    before = open_journal(folder, KEY)
    record(before, Started(SESSION), part(1), Started(SESSION))
    assert before.replay().parts == {1: part(1)}
    record(before, Started(Session("upload-2", SESSION.file, 10)))

    assert before.replay().parts == {}
    before.close()


def test_reset_forgets_at_once_and_for_good(folder: Path) -> None:
    before = open_journal(folder, KEY, source=SOURCE)
    record(before, Started(SESSION), part(1))

    before.reset()

    assert before.replay().session is None
    before.close()
    assert open_journal(folder, KEY).replay().session is None


def test_writing_goes_on_after_a_reset(folder: Path) -> None:
    before = open_journal(folder, KEY, source=SOURCE)
    record(before, Started(SESSION), part(1))
    before.reset()
    record(before, Started(SESSION), part(2))
    before.close()

    assert open_journal(folder, KEY).replay().parts == {2: part(2)}


def test_discard_leaves_nothing_behind(folder: Path) -> None:
    one = open_journal(folder, KEY)
    record(one, Started(SESSION), part(1))

    one.discard()

    assert list((folder / "journals").iterdir()) == []


def test_close_leaves_the_journal_and_nothing_else(folder: Path) -> None:
    one = open_journal(folder, KEY)
    record(one, Started(SESSION), part(1))

    one.close()
    one.close()

    assert list((folder / "journals").iterdir()) == [the_file(folder)]


def test_different_targets_accounts_and_sources_have_journals_of_their_own() -> None:
    keys = [KEY, Key("a", "b", "c"), Key("a", "bc", ""), Key("ab", "", "c"), Key("a", "b", "d")]

    assert len({key.id for key in keys}) == len(keys)


def test_without_a_folder_it_lives_in_memory(tmp_path: Path) -> None:
    one = open_journal(None, KEY, source=SOURCE)
    record(one, Started(SESSION), part(1))

    assert one.replay().parts == {1: part(1)}
    assert one.problem == ""
    one.discard()
    assert list(tmp_path.iterdir()) == []


def test_lines_in_memory_survive_their_journal() -> None:
    memory = MemoryLines()
    record(Journal(memory, KEY, source=SOURCE), Started(SESSION), part(2))

    past = Journal(memory, KEY).replay()

    assert (past.session, past.parts, past.source) == (SESSION, {2: part(2)}, SOURCE)


# -- what is in the file, and who may see it


def test_folder_and_file_are_private(folder: Path) -> None:
    previous = os.umask(0)
    try:
        one = open_journal(folder, KEY)
        record(one, Started(SESSION))
        Ledger(folder).add(Entry(0, "x", 1, "t"))
    finally:
        os.umask(previous)

    for path in (folder, folder / "journals"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    one.close()


def test_an_empty_folder_made_by_others_is_closed_and_a_shared_one_is_not(tmp_path: Path) -> None:
    for name in ("empty", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "shared" / "thesis.tex").touch()

    for name in ("empty", "shared"):
        open_journal(tmp_path / name, KEY).close()

    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "shared" / "journals").stat().st_mode) == 0o700


def test_the_first_line_says_version_target_source_and_process(folder: Path) -> None:
    one = open_journal(folder, KEY, source=SOURCE)
    record(one, Creating())

    header = json.loads(the_file(folder).read_text().splitlines()[0].partition(" ")[2])

    assert header["chunkup"] == 1
    assert header["target"] == KEY.target
    assert header["identity"] == KEY.source
    assert header["source"] == SOURCE
    assert header["pid"] == os.getpid()
    one.close()


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNKUP_STATE", "~/elsewhere")
    assert journal.default_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("CHUNKUP_STATE")
    assert journal.default_folder().name == "chunkup"


# -- torn, damaged, foreign


@pytest.fixture
def written(folder: Path) -> Path:
    one = open_journal(folder, KEY, source=SOURCE)
    record(one, Creating(), Started(SESSION), part(1), part(2), part(3))
    one.close()
    return the_file(folder)


def test_a_torn_end_is_ignored_at_every_byte(folder: Path, written: Path) -> None:
    whole = written.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]

    for cut in range(ends[2], len(whole)):
        written.write_bytes(whole[:cut])
        one = open_journal(folder, KEY)

        intact = sum(end <= cut for end in ends) - 3
        assert one.problem == ""
        assert one.replay().session == SESSION
        assert len(one.replay().parts) == max(0, intact)
        one.close()


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"deadbeef {}\n", b"\xff\xfe\n\n\0", b"half a li"])
def test_writing_goes_on_after_a_torn_end(folder: Path, written: Path, tail: bytes) -> None:
    written.write_bytes(written.read_bytes() + tail)

    one = open_journal(folder, KEY)
    record(one, part(4))
    one.close()
    again = open_journal(folder, KEY)

    assert again.problem == ""
    assert sorted(again.replay().parts) == [1, 2, 3, 4]


def test_damage_sets_the_journal_aside_and_keeps_the_session(folder: Path, written: Path) -> None:
    """The parts are no longer trusted; the server is asked about the session."""
    data = bytearray(written.read_bytes())
    data[data.index(b'"n":2')] ^= 1
    written.write_bytes(data)

    one = open_journal(folder, KEY)
    past = one.replay()

    assert "damaged" in one.problem
    assert "the server is asked" in one.problem
    assert (past.session, past.parts, past.source) == (SESSION, {}, SOURCE)
    assert written.with_name(written.name + ".bad").read_bytes() == data
    one.close()
    again = open_journal(folder, KEY)
    assert (again.problem, again.replay().session) == ("", SESSION)


@pytest.mark.parametrize("at", ["end", "middle", "alone"])
def test_a_line_whose_checksum_holds_and_that_says_nothing_is_damage(
    folder: Path, written: Path, at: str
) -> None:
    """Zeros are the checksum of nothing: a file system's idea of an empty block, say."""
    lines, nothing = written.read_bytes().splitlines(keepends=True), b"00000000 \n"
    placed = {"end": [*lines, nothing], "middle": [*lines[:-1], nothing, lines[-1]]}
    written.write_bytes(b"".join(placed.get(at, [nothing])))

    assert len(unfinished(folder)) == (at != "alone")
    assert journal.peek(folder, KEY).session == (None if at == "alone" else SESSION)
    one = open_journal(folder, KEY)

    assert bool(one.problem) is (at != "end")
    assert len(one.replay().parts) == (3 if at == "end" else 0)


def test_every_damaged_byte_is_noticed_or_harmless(folder: Path, written: Path) -> None:
    """A part is never made up: what is found is what was written, or nothing."""
    whole = written.read_bytes()
    true = {1: part(1), 2: part(2), 3: part(3)}

    for at in range(0, len(whole), 3):
        data = bytearray(whole)
        data[at] ^= 0x55
        one = Journal(MemoryLines(bytes(data)), KEY)

        past = one.replay()
        assert past.session in (SESSION, None)
        assert past.parts.items() <= true.items()
        last_line = whole.rindex(b"\n", 0, -1)
        assert one.problem or at >= last_line  # a torn end: what it held is sent again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (os.urandom(5000), "not one of ours"),
        (b"\0" * 300, "not one of ours"),
        (b'{"some": "json"}\n' * 10, "not one of ours"),
    ],
)
def test_garbage_is_set_aside_and_the_upload_begins_anew(
    folder: Path, written: Path, content: bytes, message: str
) -> None:
    written.write_bytes(content)

    one = open_journal(folder, KEY, source=SOURCE)

    assert message in one.problem
    assert "begins anew" in one.problem
    assert one.replay().session is None
    assert written.with_name(written.name + ".bad").exists()
    record(one, Started(SESSION), part(1))
    one.close()
    again = open_journal(folder, KEY)
    assert (again.problem, sorted(again.replay().parts)) == ("", [1])


def _with_header(data: bytes, **changes: object) -> bytes:
    first, _, rest = data.partition(b"\n")
    header = {**json.loads(first.partition(b" ")[2]), **changes}
    return records.encode(header) + rest


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"chunkup": 2}, "another version"), ({"target": "oss://else/where"}, "another upload")],
)
def test_another_version_or_upload_is_not_resumed(
    folder: Path, written: Path, changes: dict[str, object], message: str
) -> None:
    written.write_bytes(_with_header(written.read_bytes(), **changes))

    one = open_journal(folder, KEY)

    assert message in one.problem
    assert one.replay().session is None


def test_a_link_is_never_followed(folder: Path, written: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(written.read_bytes())
    written.unlink()
    written.symlink_to(target)
    before = target.read_bytes()

    one = open_journal(folder, KEY)
    record(one, Started(SESSION))

    assert "not ours" in one.problem
    assert one.replay().parts == {}
    assert target.read_bytes() == before
    assert not written.is_symlink()
    one.close()


def test_a_file_of_another_user_is_not_trusted(
    folder: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(lines.os, "geteuid", lambda: mine + 1)
    really = os.stat

    def theirs(path: Any, **options: Any) -> os.stat_result:
        found = really(path, **options)
        return os.stat_result([*found[:4], mine + 1, *found[5:]])

    monkeypatch.setattr(lines.os, "stat", theirs)

    one = open_journal(folder, KEY)

    assert "another user" in one.problem
    assert one.replay().session is None


# -- crashes: every system call, failing or the last one


class Crash(BaseException):
    """The power goes."""


class Disk(System):
    """Calls the system, and stops it at the n-th call: with an error, or for good.

    A write that stops leaves half of its bytes. What is not fsynced when the power
    goes is lost: a file falls back to its last fsynced length, a name to what it named.
    """

    def __init__(self, at: int = -1, error: OSError | None = None, power: bool = False) -> None:
        self.calls = 0
        self.at = at
        self.error = error
        self.power = power
        self.durable: dict[int, tuple[str, int]] = {}  # descriptor -> path, fsynced bytes
        self.gone = False
        self.names: dict[Path, bytes | None] = {}  # what a name not yet fsynced stood for

    def _step(self, half: Any = None) -> None:
        if self.gone:
            raise Crash
        self.calls += 1
        if self.calls != self.at:
            return
        if half is not None:
            half()
        if self.error is not None:
            raise self.error
        self.gone = True
        if self.power:
            for path, size in self.durable.values():
                for name in (path, path.removesuffix(".new")):
                    if os.path.exists(name) and os.path.getsize(name) > size:
                        os.truncate(name, size)
            for path_, before in self.names.items():
                path_.unlink(missing_ok=True)
                if before is not None:
                    path_.write_bytes(before)
        raise Crash

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._step()
        file = super().open(path, flags, mode)
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.durable[file] = str(path), os.fstat(file).st_size
        return file

    def write(self, file: int, data: bytes) -> int:
        self._step(lambda: os.write(file, data[: len(data) // 2]))
        return super().write(file, data)

    def fsync(self, file: int) -> None:
        self._step()
        super().fsync(file)
        self.durable[file] = self.durable[file][0], os.fstat(file).st_size

    def ftruncate(self, file: int, size: int) -> None:
        self._step()
        super().ftruncate(file, size)

    def replace(self, old: Path, new: Path) -> None:
        self._step()
        self.names.setdefault(new, new.read_bytes() if new.exists() else None)
        super().replace(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._step()
        super().link(old, new)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        super().sync_folder(folder)
        self.names.clear()


RECORDS = [Creating(), Started(SESSION), part(1), part(2), Acknowledged((1, 2)), part(3)]


def run(folder: Path, disk: Disk) -> list[Any]:
    """Write all records straight to the store; return those that were reported durable."""
    reported: list[Any] = []
    store = FileLines(the_file(folder), disk)
    one: Journal | None = None
    try:
        one = Journal(store, KEY, source=SOURCE)
        for content in RECORDS:
            one._known.add(records.to_json(content, SOURCE))
            one._store([records.encode(records.to_json(content, SOURCE))])
            if one.problem:
                break
            reported.append(content)
    except Crash:
        pass
    return reported


def calls_of_a_run(folder: Path) -> int:
    disk = Disk()
    run(folder, disk)
    the_file(folder).unlink()
    return disk.calls


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_nothing_reported_durable_is_lost_whatever_call_was_the_last(
    folder: Path, power: bool
) -> None:
    lines.private_folder(folder)

    for at in range(1, calls_of_a_run(folder) + 1):
        reported = run(folder, Disk(at, power=power))
        one = open_journal(folder, KEY)
        past = one.replay()

        assert one.problem == "", f"call {at}"
        assert past.creating or past.session or not reported, f"call {at}"
        if any(isinstance(record, Started) for record in reported):
            assert past.session == SESSION, f"call {at}"
        for record_ in reported:
            if isinstance(record_, PartDone):
                assert past.parts[record_.receipt.number] == record_, f"call {at}"
        one.discard()
        assert list((folder / "journals").iterdir()) == [], f"call {at}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_costs_the_resume_and_never_the_upload(folder: Path, number: int) -> None:
    lines.private_folder(folder)

    for at in range(2, calls_of_a_run(folder) + 1):
        reported = run(folder, Disk(at, OSError(number, os.strerror(number))))

        assert not (folder / "journals" / f"{KEY.id}.jsonl.new").exists(), f"call {at}"
        one = open_journal(folder, KEY)
        past = one.replay()
        assert one.problem == "", f"call {at}"
        done = {r.receipt.number for r in reported if isinstance(r, PartDone)}
        assert done <= set(past.parts), f"call {at}"
        one.discard()


def test_a_full_disk_is_told_once_and_writing_goes_on_in_memory(folder: Path) -> None:
    disk = Disk()
    one = open_journal(folder, KEY, source=SOURCE, system=disk)
    record(one, Started(SESSION), part(1))
    before = the_file(folder).read_bytes()
    disk.at, disk.error = disk.calls + 1, OSError(errno.ENOSPC, "No space left on device")

    record(one, part(2))
    first = one.problem
    assert the_file(folder).read_bytes() == before  # half a line was written and taken back
    calls = disk.calls
    record(one, part(3))

    assert "No space left" in first
    assert "goes on" in first
    assert one.problem == first
    assert sorted(one.replay().parts) == [1, 2, 3]
    assert disk.calls - calls <= 1  # nothing is tried again
    one.close()
    assert sorted(open_journal(folder, KEY).replay().parts) == [1]


def test_a_folder_that_cannot_be_made_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands here")

    one = open_journal(tmp_path / "state", KEY)
    record(one, Started(SESSION), part(1))

    assert "cannot be written" in one.problem
    assert "cannot be resumed" in one.problem
    assert one.replay().parts == {1: part(1)}
    one.discard()


def test_damage_is_survived_whatever_call_was_the_last(folder: Path) -> None:
    """Killed while a damaged journal is set aside: the session is still found."""
    lines.private_folder(folder)
    run(folder, Disk())
    whole = the_file(folder).read_bytes()
    damaged = whole.replace(b'"n":1', b'"n":7')

    for at in range(1, 20):
        for path in (folder / "journals").iterdir():
            path.unlink()
        the_file(folder).write_bytes(damaged)
        disk = Disk(at)
        try:
            Journal(FileLines(the_file(folder), disk), KEY)
        except Crash:
            assert open_journal(folder, KEY).replay().session == SESSION, f"call {at}"
        else:
            assert at > 5
            return
    pytest.fail("setting aside takes too many calls")


def test_kill_9_in_the_middle_of_writing_loses_nothing_reported(folder: Path) -> None:
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *

        async def main():
            one = open_journal(Path({str(folder)!r}), KEY, source=SOURCE)
            await one.write(Started(SESSION))
            async def put(number):
                await one.write(part(number))
                print(number, flush=True)
            for start in range(1, 100000, 8):
                await asyncio.gather(*(put(n) for n in range(start, start + 8)))
        asyncio.run(main())
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")[:-1]  # a last line may be half a number
        reported += [int(line) for line in rest]

    one = open_journal(folder, KEY)

    assert one.problem == ""
    assert set(reported) <= set(one.replay().parts)
    assert one.replay().session == SESSION


# -- many writers


def test_one_wait_for_the_disk_serves_all_who_wait(folder: Path) -> None:
    class Counting(System):
        fsyncs = 0

        def fsync(self, file: int) -> None:
            type(self).fsyncs += 1
            super().fsync(file)

    one = open_journal(folder, KEY, system=Counting())

    async def main() -> None:
        await one.write(Started(SESSION))
        await asyncio.gather(*(one.write(part(number)) for number in range(1, 1001)))

    asyncio.run(main())
    one.close()

    assert Counting.fsyncs < 20
    assert len(open_journal(folder, KEY).replay().parts) == 1000


def test_a_writer_returns_only_when_its_line_is_durable(folder: Path) -> None:
    gate = threading.Event()

    class Slow(System):
        def fsync(self, file: int) -> None:
            assert gate.wait(20)
            super().fsync(file)

    one = open_journal(folder, KEY, system=Slow())

    async def main() -> bool:
        task = asyncio.create_task(one.write(Started(SESSION)))
        done, _ = await asyncio.wait([task], timeout=0.05)
        gate.set()
        await task
        return bool(done)

    assert asyncio.run(main()) is False
    one.close()


def test_a_writer_that_is_cancelled_disturbs_nobody(folder: Path) -> None:
    gate = threading.Event()

    class Slow(System):
        def fsync(self, file: int) -> None:
            assert gate.wait(20)
            super().fsync(file)

    one = open_journal(folder, KEY, system=Slow())

    async def main() -> None:
        tasks = [asyncio.create_task(one.write(part(number))) for number in range(1, 6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(asyncio.CancelledError) == 2

    asyncio.run(main())
    one.close()

    assert set(open_journal(folder, KEY).replay().parts) >= {2, 3, 5}


def test_it_can_be_used_from_one_loop_after_another_and_from_threads(folder: Path) -> None:
    one = open_journal(folder, KEY)
    record(one, Started(SESSION))
    threads = [threading.Thread(target=record, args=(one, part(n))) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    record(one, part(9))
    one.close()

    assert sorted(open_journal(folder, KEY).replay().parts) == list(range(1, 10))


def test_writing_after_closing_is_harmless(folder: Path) -> None:
    one = open_journal(folder, KEY)
    record(one, Started(SESSION))
    one.close()
    size = the_file(folder).stat().st_size

    record(one, part(1))

    assert the_file(folder).stat().st_size == size


# -- one at a time


def test_a_second_opener_is_told_who_has_it_and_how_far_it_is(folder: Path) -> None:
    first = open_journal(folder, KEY, source=SOURCE)
    first.beat("31 of 49 parts")
    until(lambda: "31" in status(folder))

    began = time.monotonic()
    with pytest.raises(AlreadyUploading, match=r"this process.*film\.mp4 to oss://") as caught:
        open_journal(folder, KEY, source=SOURCE)

    assert time.monotonic() - began < 2
    assert caught.value.pid == os.getpid()
    assert caught.value.progress == "31 of 49 parts"
    first.close()
    open_journal(folder, KEY).close()


def test_another_process_is_named(folder: Path) -> None:
    with holder(folder) as process:
        with pytest.raises(AlreadyUploading, match=f"process {process.pid}") as caught:
            open_journal(folder, KEY)

        assert caught.value.pid == process.pid
        assert caught.value.progress == "half way"


def test_the_lock_of_a_killed_process_is_free(folder: Path) -> None:
    with holder(folder) as process:
        process.kill()
        process.wait(20)

        one = open_journal(folder, KEY)

        assert one.replay().session == SESSION
        one.close()


def test_of_many_processes_one_gets_it(folder: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *
        sys.stdin.readline()
        try:
            one = open_journal(Path({str(folder)!r}), KEY)
        except AlreadyUploading:
            print("told", flush=True)
        else:
            print("mine", flush=True)
            sys.stdin.readline()
        """
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            process.stdin.write(b"\n")  # type: ignore[union-attr]
        answers = sorted(process.stdout.readline() for process in processes)  # type: ignore[union-attr]
    finally:
        for process in processes:
            process.communicate(b"\n")

    assert answers == [b"mine\n"] + [b"told\n"] * 3


def test_whoever_waited_for_a_lock_that_was_removed_has_not_got_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file may be locked once it has no name; a third one has the new file by then."""
    import fcntl

    first = open_journal(folder, KEY)
    others: list[Journal] = []
    flock = fcntl.flock

    def late(file: int, operation: int) -> None:
        if not others:
            monkeypatch.setattr(fcntl, "flock", flock)
            first.close()
            others.append(open_journal(folder, KEY))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)

    with pytest.raises(AlreadyUploading):
        open_journal(folder, KEY)
    others[0].close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a test runner has threads
def test_a_forked_child_neither_keeps_the_lock_nor_writes(folder: Path) -> None:
    one = open_journal(folder, KEY)
    record(one, Started(SESSION))
    size = the_file(folder).stat().st_size
    asked, told = os.pipe()
    go, ended = os.pipe()

    child = os.fork()
    if not child:  # pragma: no cover
        one._store([b"the child writes\n"])
        one.close()
        os.write(told, one.problem.encode())
        os.read(go, 1)
        os._exit(0)
    try:
        problem = os.read(asked, 1000).decode()
        assert "forked" in problem
        assert the_file(folder).stat().st_size == size
        with pytest.raises(AlreadyUploading):  # the child took nothing away
            open_journal(folder, KEY)
        one.close()
        open_journal(folder, KEY).close()  # nor does it hold on to anything
    finally:
        os.write(ended, b"x")
        os.waitpid(child, 0)
        for descriptor in (asked, told, go, ended):
            os.close(descriptor)


def test_heartbeats_are_cheap_and_rare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = open_journal(folder, KEY)
    written: list[str] = []
    assert one._lock is not None
    monkeypatch.setattr(one._lock, "_write_status", written.append)

    for number in range(10_000):
        one.beat(f"{number} parts")

    until(lambda: written)
    assert len(written) <= 3
    one.close()


# -- where the file system knows no locks


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_a_named_owner_stands_in(folder: Path) -> None:
    first = open_journal(folder, KEY)

    with pytest.raises(AlreadyUploading):
        open_journal(folder, KEY)
    assert unfinished(folder) == []
    first.close()

    assert list((folder / "journals").iterdir()) == []
    open_journal(folder, KEY).close()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(
    ("owner", "age", "free"),
    [
        ({}, 0, False),
        ({"pid": 2**22 + 5}, 0, True),
        ({"start": "1"}, 0, True),
        ({"boot": "another"}, 0, True),
        ({"host": "another"}, 0, False),
        ({"host": "another"}, 3600, True),
        (None, 0, False),
        (None, 60, True),
    ],
    ids=[
        "alive",
        "process gone",
        "number used again",
        "machine restarted",
        "on another machine",
        "silent for an hour",
        "being written",
        "never written",
    ],
)
def test_a_named_owner_that_is_gone_is_replaced(
    folder: Path, owner: dict[str, Any] | None, age: float, free: bool
) -> None:
    lines.private_folder(folder)
    path = folder / "journals" / f"{KEY.id}.owner"
    path.write_text("" if owner is None else json.dumps({**locks._me(), **owner}))
    os.utime(path, (time.time() - age,) * 2)

    if free:
        open_journal(folder, KEY).close()
        assert not path.exists()
    else:
        with pytest.raises(AlreadyUploading):
            open_journal(folder, KEY)


# -- what is unfinished


def test_unfinished_uploads_are_listed_with_their_progress(folder: Path) -> None:
    for number in (2, 1):
        one = open_journal(folder, Key(f"oss://b/{number}", "a", f"path:/{number}"), source=SOURCE)
        record(one, Started(SESSION), *map(part, range(1, number + 1)))
        one.close()

    found = unfinished(folder)

    assert [(one.target, one.parts_done, one.bytes_done) for one in found] == [
        ("oss://b/2", 2, 20),
        ("oss://b/1", 1, 10),
    ]
    one = found[0]
    assert (one.parts, one.size, one.spelled, one.name) == (10, 95, "film.mp4", "film.mp4")
    assert (one.expires_at, one.session, one.pid) == (SESSION.expires_at, SESSION, 0)


def test_a_running_one_says_so_and_is_not_disturbed(folder: Path) -> None:
    with holder(folder) as process:
        (one,) = unfinished(folder)

        assert (one.pid, one.progress) == (process.pid, "half way")
        with pytest.raises(AlreadyUploading):
            journal.remove(one.id, folder)


def test_listing_changes_nothing(folder: Path, written: Path) -> None:
    data = written.read_bytes() + b"torn"
    written.write_bytes(data)
    (folder / "journals" / "0123456789abcdef.jsonl").write_bytes(b"garbage")

    assert len(unfinished(folder)) == 1

    assert written.read_bytes() == data
    assert {path.name for path in (folder / "journals").iterdir()} == {
        written.name,
        "0123456789abcdef.jsonl",
    }


def test_one_can_be_removed_by_its_id(folder: Path, written: Path) -> None:
    (one,) = unfinished(folder)

    journal.remove(one.id, folder)

    assert unfinished(folder) == []
    for nonsense in (one.id, "../../etc/passwd", ""):
        with pytest.raises(InvalidUpload):
            journal.remove(nonsense, folder)


def test_no_folder_means_nothing_unfinished(folder: Path) -> None:
    assert unfinished(folder) == []
    assert not folder.exists()


# -- the ledger


ENTRY = Entry(
    when=1.5,
    name="film.mp4",
    size=95,
    target="oss://b/film.mp4",
    provider="oss",
    id="film",
    checksum="crc64:7",
    verified=("crc64 of the object",),
    elapsed=3.0,
    parts=10,
    url="https://b.example/film.mp4",
)


def test_the_ledger_gives_back_what_was_entered(folder: Path) -> None:
    Ledger(folder).add(ENTRY)
    Ledger(folder).add(ENTRY)

    assert Ledger(folder).entries() == [ENTRY, ENTRY]


def test_a_torn_or_foreign_line_costs_only_itself(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.add(ENTRY)
    with (folder / "ledger.jsonl").open("ab") as file:
        file.write(b'[1]\n\xff\xfe\n{"when": 1}\n{"name": "torn')

    ledger.add(ENTRY)

    assert ledger.entries() == [ENTRY, ENTRY]


def test_what_a_newer_version_adds_is_ignored(folder: Path) -> None:
    lines.private_folder(folder)
    content = {"when": 1.0, "name": "x", "size": 1, "target": "t", "colour": "blue"}
    (folder / "ledger.jsonl").write_text(json.dumps(content) + "\n")

    assert Ledger(folder).entries() == [Entry(1.0, "x", 1, "t")]


def test_passwords_in_addresses_are_not_kept(folder: Path) -> None:
    Ledger(folder).add(
        Entry(1.0, "x", 1, "t", url="https://me:secret@host.example/x?Signature=secret#secret")
    )

    assert Ledger(folder).entries()[0].url == "https://host.example/x"
    assert "secret" not in (folder / "ledger.jsonl").read_text()


def test_of_a_long_history_only_what_is_wanted_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every upload asks it once, and a folder of thousands asks it thousands of times."""
    wanted = Entry(1.0, "größe.mp4", 95, 'oss://bucket/"größe".mp4')
    for entry in (ENTRY, wanted, replace(wanted, size=950), replace(wanted, target="oss://b/x")):
        Ledger(folder).add(entry)
    parsed, parse = [], json.loads
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or parse(line))

    assert Ledger(folder).entries(target=wanted.target, size=95) == [wanted]
    assert len(parsed) == 2, "95 looks like 950"


def test_a_ledger_that_cannot_be_written_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    ledger = Ledger(tmp_path / "state")

    ledger.add(ENTRY)

    assert "history cannot be written" in ledger.problem
    assert ledger.entries() == []
    memory = Ledger(None)
    memory.add(ENTRY)
    assert memory.entries() == [ENTRY]


def test_two_processes_may_write_the_ledger_at_once(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_enter, args=(folder, 50)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert Ledger(folder).entries() == [ENTRY] * 100


def _enter(folder: Path, times: int) -> None:
    for _ in range(times):
        Ledger(folder).add(ENTRY)


# -- helpers


def status(folder: Path) -> str:
    try:
        return the_file(folder).with_suffix(".status").read_text()
    except FileNotFoundError:
        return ""


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class holder:
    """A process that has the journal, has written a session, and says "half way"."""

    def __init__(self, folder: Path) -> None:
        program = textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_journal import *
            one = open_journal(Path({str(folder)!r}), KEY, source=SOURCE)
            record(one, Started(SESSION))
            one.beat("half way")
            until(lambda: "half" in status(Path({str(folder)!r})))
            print(flush=True)
            sys.stdin.readline()
            """
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

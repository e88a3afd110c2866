"""Reading an output of which the middle is not kept, or is vanishing: real bytes or a gap, never zeros."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Daemon, wait_for
from test_output import UNTIL_GO, content, events, followed, get, go, log

from task_runner.api import follow
from task_runner.api.follow import CHUNK, Follower, GrowthWatch, Piece, Source, first_kept, tail_offset
from task_runner.lib import gaps
from task_runner.model.status import Gap

LIMIT = 1 << 18
BLOCK = 4096


# -- the file alone


class Log:
    """A file of random lines, and the bytes that were once in it."""

    def __init__(self, path: Path, size: int = 20 * CHUNK) -> None:
        self.path = str(path)
        source = random.Random(size)
        self.data = b"".join(b"%d\n" % source.getrandbits(200) for _ in range(size // 50))[:size]
        path.write_bytes(self.data)

    def punch(self, start: int, end: int) -> None:
        fd = os.open(self.path, os.O_WRONLY)
        try:
            gaps.punch(fd, start, end)
        finally:
            os.close(fd)

    def source(self, **more: Any) -> Source:
        return Source(attempt=1, path=self.path, limit=LIMIT, **more)

    def find(self, offset: int, **more: Any) -> tuple[int, int] | None:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return gaps.find(fd, offset, **{"limit": LIMIT, **more})
        finally:
            os.close(fd)


@pytest.fixture
def punched(tmp_path: Path) -> tuple[Log, int, int]:
    """A log as a runner leaves it, and where its gap begins and ends."""
    made = Log(tmp_path / "log")
    start, end = gaps.middle(len(made.data), LIMIT, BLOCK)
    made.punch(start, end)
    return made, start, end


def test_a_gap_is_seen_in_the_file_itself(punched: tuple[Log, int, int]):
    made, start, end = punched
    assert made.find(0) == (start, end)
    assert made.find(start) == (start, end)
    assert made.find(start + 5) == (start + 5, end)
    assert made.find(end) is None
    assert made.find(10**15) is None
    assert made.find(0, limit=None) is None


def test_a_gap_that_only_a_status_tells_of(tmp_path: Path):
    made = Log(tmp_path / "log")
    assert made.find(0) is None
    told = ((CHUNK, 2 * CHUNK),)
    assert made.find(0, told=told) == (CHUNK, 2 * CHUNK)
    assert made.find(CHUNK + 1, told=told) == (CHUNK + 1, 2 * CHUNK)
    assert made.find(2 * CHUNK, told=told) is None


def test_the_file_knows_more_of_a_gap_than_a_status_that_is_behind(punched: tuple[Log, int, int]):
    made, start, end = punched
    for offset in (0, start, start + 10_000, end - 1):
        assert made.find(offset, told=((start, start + 8192),)) == (max(start, offset), end)


def test_a_hole_where_no_middle_can_be_is_none(tmp_path: Path):
    """As some file systems store zeros."""
    made = Log(tmp_path / "log")
    made.punch(0, BLOCK)
    made.punch(len(made.data) // BLOCK * BLOCK - BLOCK, len(made.data) // BLOCK * BLOCK)
    assert made.find(0) is None


def test_a_gap_that_comes_between_the_read_and_the_look_shows_no_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The runner frees what a reader is reading: before its bytes are read, or after."""
    start, end = gaps.middle(20 * CHUNK, LIMIT, BLOCK)
    read = os.pread
    for number, late in enumerate((True, False)):
        made = Log(tmp_path / f"log{number}")

        def pread(fd: int, most: int, offset: int, made: Log = made, late: bool = late) -> bytes:
            data = read(fd, most, offset) if late else b""
            made.punch(start, end)
            return data if late else read(fd, most, offset)

        with monkeypatch.context() as patched:
            patched.setattr(follow.os, "pread", pread)
            across = asyncio.run(_first(made.source(), start - 100))
            assert across == Piece(offset=start - 100, data=made.data[start - 100 : start])
            assert asyncio.run(_first(made.source(), start + 10)) == Gap(offset=start + 10, bytes=end - start - 10)


async def _first(source: Source, offset: int) -> Piece | Gap | None:
    fd = os.open(source.path, os.O_RDONLY)
    try:
        return await follow._read(fd, offset, source)
    finally:
        os.close(fd)


def test_the_last_lines_are_not_looked_for_in_a_gap(punched: tuple[Log, int, int], monkeypatch: pytest.MonkeyPatch):
    made, start, end = punched
    read, lowest = os.pread, len(made.data)

    def pread(fd: int, most: int, offset: int) -> bytes:
        nonlocal lowest
        lowest = min(lowest, offset)
        return read(fd, most, offset)

    monkeypatch.setattr(follow.os, "pread", pread)
    last = made.data[end:].splitlines(keepends=True)
    for count in (0, 1, 2, len(last) - 1):
        assert tail_offset(made.source(), count) == len(made.data) - sum(map(len, last[len(last) - count :]))
    for count in (len(last), 10**6):
        assert tail_offset(made.source(), count) == start
    assert lowest >= end


def test_the_last_lines_while_the_gap_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Log(tmp_path / "log")
    start, end = gaps.middle(len(made.data), LIMIT, BLOCK)
    made.punch(start, end - 3 * CHUNK - 4096)
    read = os.pread

    def pread(fd: int, most: int, offset: int) -> bytes:
        data = read(fd, most, offset)
        if offset < end:
            made.punch(start, end)
        return data

    monkeypatch.setattr(follow.os, "pread", pread)
    kept = len(made.data[end:].splitlines())
    assert tail_offset(made.source(), kept + 5) == start


def test_the_first_byte_that_is_kept(punched: tuple[Log, int, int], tmp_path: Path):
    made, start, end = punched
    found = {offset: first_kept(made.source(), offset) for offset in (0, start - 1, start, end - 1, end, 10**12)}
    assert found == {0: 0, start - 1: start - 1, start: end, end - 1: end, end: end, 10**12: 10**12}
    assert first_kept(Source(attempt=1, path=str(tmp_path / "nowhere"), limit=LIMIT), 7) == 7


# -- over HTTP

SIZE = 1_500_000
CODE = "import random, sys; sys.stdout.buffer.write(random.Random(7).randbytes(int(sys.argv[1])))"


@pytest.fixture(scope="module")
def long(shared: Daemon) -> tuple[str, bytes, int, int]:
    """A task with a gap in its output, what it wrote, and where the gap begins and ends."""
    task_id = shared.submit(sys.executable, "-c", CODE, str(SIZE), maxOutputBytes=LIMIT)
    task = shared.wait(task_id)
    (gap,) = task["output"]["gaps"]
    data = random.Random(7).randbytes(SIZE)
    start, end = gap["offset"], gap["offset"] + gap["bytes"]
    assert task["output"]["bytes"] == SIZE
    assert LIMIT <= SIZE - gap["bytes"] <= LIMIT + 2 * BLOCK
    assert task["output"]["sha256"] == hashlib.sha256(data[:start] + data[end:]).hexdigest()
    return task_id, data, start, end


def mark(count: int) -> bytes:
    return b"\n[... %d bytes not kept ...]\n" % count


def test_a_reader_sees_a_mark_once_in_the_place_of_the_gap(shared: Daemon, long: tuple[str, bytes, int, int]):
    task_id, data, start, end = long
    for query in ("", "gaps=mark", "follow=true"):
        assert get(shared, task_id, query).content == data[:start] + mark(end - start) + data[end:]
    for offset in (start - 5, start, start + 7, end - 1):
        response = get(shared, task_id, f"offset={offset}")
        assert response.headers["x-output-offset"] == str(offset)
        assert response.content == data[offset : max(offset, start)] + mark(end - max(start, offset)) + data[end:]
    assert get(shared, task_id, f"offset={end}").content == data[end:]


def test_a_program_can_have_the_bytes_alone(shared: Daemon, long: tuple[str, bytes, int, int]):
    task_id, data, start, end = long
    whole = get(shared, task_id, "gaps=skip").content
    assert whole == data[:start] + data[end:]
    assert hashlib.sha256(whole).hexdigest() == shared.task(task_id)["output"]["sha256"]
    response = get(shared, task_id, f"gaps=skip&offset={start + 7}")
    assert (response.headers["x-output-offset"], response.content) == (str(end), data[end:])


def test_a_program_can_know_the_offset_of_every_byte(shared: Daemon, long: tuple[str, bytes, int, int]):
    """It counts what it gets from X-Output-Offset on; where an answer ends early, it asks for the next byte."""
    task_id, data, start, end = long
    for query in ("gaps=stop", "gaps=stop&follow=true"):
        response = get(shared, task_id, query)
        assert (response.headers["x-output-offset"], response.content) == ("0", data[:start])
        response = get(shared, task_id, f"{query}&offset={start}")
        assert (response.headers["x-output-offset"], response.content) == (str(end), data[end:])


def test_what_to_do_with_gaps_is_one_of_three_words(shared: Daemon, long: tuple[str, bytes, int, int]):
    response = get(shared, long[0], "gaps=fill")
    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "gaps", "message": "'fill' is not one of mark, skip, stop"}]


def test_ranges_and_gaps(shared: Daemon, long: tuple[str, bytes, int, int]):
    task_id, data, start, end = long
    for first, last, expected in (
        (0, 99, data[:100]),
        (start - 10, start - 1, data[start - 10 : start]),
        (start - 10, end + 10, data[start - 10 : start]),  # so much of it as comes before the gap
        (end, end + 9, data[end : end + 10]),
        (end, SIZE, data[end:]),
    ):
        response = get(shared, task_id, Range=f"bytes={first}-{last}")
        assert (response.status_code, response.content) == (206, expected)
        assert response.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/*"
    for first in (start, start + 1, end - 1):
        response = get(shared, task_id, Range=f"bytes={first}-{end + 10}")
        assert (response.status_code, response.headers["x-output-offset"]) == (416, str(end))
        assert response.json()["detail"] == f"the bytes from {first} to {end - 1} are not kept: ask from {end} on"


def test_events_tell_of_a_gap(shared: Daemon, long: tuple[str, bytes, int, int]):
    task_id, data, start, end = long
    for offset in (0, start, start + 10, end):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(offset)}
        at, gap = offset, None
        for event in events(iter(get(shared, task_id, **headers).text.splitlines())):
            if event["event"] == "output":
                assert event["data"]["offset"] == at
                assert content(event) == data[at : at + len(content(event))]
                at += len(content(event))
                assert event["id"] == str(at)
            elif event["event"] == "gap":
                assert gap is None
                gap = event
                assert event["data"] == {"offset": max(offset, start), "bytes": end - max(offset, start)}
                at = end
                assert event["id"] == str(end)
        assert (at, gap is None) == (SIZE, offset == end)


def test_the_last_lines_of_an_output_with_a_gap(shared: Daemon):
    script = "seq 1 300000"
    task_id = shared.submit("sh", "-c", script, maxOutputBytes=LIMIT)
    (gap,) = shared.wait(task_id)["output"]["gaps"]
    assert get(shared, task_id, "tail=2").text == "299999\n300000\n"
    everything = get(shared, task_id, "tail=1000000")
    assert everything.headers["x-output-offset"] == str(gap["offset"])
    assert everything.content.startswith(mark(gap["bytes"]))
    kept = get(shared, task_id, "tail=1000000&gaps=skip")
    assert kept.headers["x-output-offset"] == str(gap["offset"] + gap["bytes"])
    assert everything.content == mark(gap["bytes"]) + kept.content


def test_disk_is_freed_while_a_task_runs(shared: Daemon):
    limit, chunk = 1 << 20, 1 << 16
    code = f"import os\nfor _ in range(400): os.write(1, b'y' * {chunk})"
    task_id = shared.submit("sh", "-c", f'{sys.executable} -c "{code}"; {UNTIL_GO}', maxOutputBytes=limit)
    path = log(shared, task_id)
    wait_for(lambda: path.exists() and path.stat().st_size == 400 * chunk, "it has written")
    wait_for(lambda: path.stat().st_blocks * 512 <= limit + 3 * BLOCK, "the middle is freed before the end")
    assert shared.wait_state(task_id, "running")["output"]["bytes"] == 400 * chunk
    go(shared, task_id)
    assert shared.wait(task_id)["outcome"] == "succeeded"


# -- streams apart


def test_streams_that_are_kept_apart(shared: Daemon):
    script = "echo one; echo two >&2; echo three"
    task_id = shared.submit("sh", "-c", script, outputMode="separate")
    task = shared.wait(task_id)
    assert (task["output"]["bytes"], task["stderr"]["bytes"]) == (10, 4)
    for query, expected in (("", b"one\nthree\n"), ("stream=stdout", b"one\nthree\n"), ("stream=stderr", b"two\n")):
        assert get(shared, task_id, query).content == expected
        assert get(shared, task_id, f"{query}&follow=true").content == expected
        assert get(shared, task_id, f"{query}&tail=1").content == expected.splitlines(keepends=True)[-1]
    assert get(shared, task_id, "stream=stderr", Range="bytes=1-2").content == b"wo"


@pytest.mark.parametrize(
    ("mode", "stream", "message"),
    [
        ("combined", "stderr", "no stream 'stderr': this task keeps them together, as output"),
        ("combined", "x" * 50, f"no stream '{'x' * 40}': this task keeps them together, as output"),
        ("separate", "output", "no stream 'output': this task keeps them apart, as stdout and stderr"),
    ],
)
def test_a_stream_that_there_is_not(shared: Daemon, mode: str, stream: str, message: str):
    task_id = shared.submit("true", outputMode=mode)
    response = get(shared, task_id, f"stream={stream}")
    assert (response.status_code, response.json()["errors"]) == (400, [{"field": "stream", "message": message}])
    shared.wait(task_id)


def test_the_one_stream_has_a_name(shared: Daemon):
    task_id = shared.submit("echo", "one")
    shared.wait(task_id)
    assert get(shared, task_id, "stream=output").content == b"one\n"


# -- silence


class Silent:
    """As much of a service as a follower asks for: a task that says nothing and does not end."""

    class hub:  # noqa: N801
        @staticmethod
        def subscribe(_task_id: str, _wake: asyncio.Event) -> Any:
            return threading.Lock()  # something to hold

    def get(self, _task_id: str) -> Any:
        return self

    id = "0123"
    final = False

    @property
    def record(self) -> Any:
        return self

    attempt = 1


def test_a_follower_hears_that_there_is_nothing_to_hear(tmp_path: Path):
    async def three() -> list[Piece | Gap | None]:
        (tmp_path / "log").write_bytes(b"one\n")
        silent: Any = Silent()
        follower = Follower(silent, GrowthWatch(), asyncio.Event(), keep_alive=0.01)
        found = follower.read(silent, Source(attempt=1, path=str(tmp_path / "log")), 0, follow=True)
        got = [await anext(found) for _ in range(3)]
        await found.aclose()  # type: ignore[attr-defined]
        return got

    assert asyncio.run(three()) == [Piece(offset=0, data=b"one\n"), None, None]


# -- the proof

TOTAL = 4_000_000
WRITER = """
import random, sys, time
data, at, chance = random.Random(11).randbytes(int(sys.argv[1])), 0, random.Random()
while at < len(data):
    size = chance.choice([10, 1000, 30000, 200000])
    sys.stdout.buffer.write(data[at:at + size])
    sys.stdout.buffer.flush()
    at += size
    time.sleep(chance.random() * 0.03)
"""


class Reader:
    """Follows an output over connections that it breaks at random, and that the daemon's end breaks, and writes down
    what it was told: of every byte once, either what it is or that it is not kept."""

    def __init__(self, daemon: Daemon, task_id: str, seed: int, query: str) -> None:
        self.position = 0
        self.pieces: list[tuple[int, bytes]] = []
        self.gaps: list[tuple[int, int]] = []
        self.connections = 0
        self.failure: BaseException | None = None
        self._daemon, self._task_id, self._query = daemon, task_id, query
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        try:
            while self.position < TOTAL:
                try:
                    self._read_a_while(self._random.choice([1, 3, 10, 10_000]))
                except (httpx.TransportError, httpx.StreamError):
                    pass  # the daemon was killed
        except BaseException as error:
            self.failure = error

    def _take(self, data: bytes) -> None:
        self.pieces.append((self.position, data))
        self.position += len(data)

    def _skip(self, end: int) -> None:
        if end > self.position:
            self.gaps.append((self.position, end))
            self.position = end

    def _read_a_while(self, most: int) -> None:
        self.connections += 1
        if self._random.random() < 0.5:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.position)}
            with followed(self._daemon, self._task_id, **headers) as stream:
                for count, event in enumerate(events(stream.iter_lines())):
                    self._note(event)
                    if count >= most:
                        return
        else:
            with followed(self._daemon, self._task_id, f"offset={self.position}{self._query}") as stream:
                self._skip(int(stream.headers["x-output-offset"]))
                for count, part in enumerate(stream.iter_raw()):
                    self._take(part)
                    if count >= most:
                        return

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"] == "output":
            assert event["data"]["offset"] == self.position
            self._take(content(event))
            assert event["id"] == str(self.position)
        elif event["event"] == "gap":
            assert event["data"]["offset"] == self.position
            self._skip(self.position + event["data"]["bytes"])
            assert event["id"] == str(self.position)


@pytest.mark.parametrize("limit", [None, LIMIT])
def test_every_byte_once_or_in_a_gap_over_broken_connections_and_killed_daemons(
    make_daemon: Callable[..., Daemon], limit: int | None
):
    daemon = make_daemon().start()
    expected = random.Random(11).randbytes(TOTAL)
    task_id = daemon.submit(sys.executable, "-c", WRITER, str(TOTAL), maxOutputBytes=limit)
    query = "" if limit is None else "&gaps=stop"
    readers = [Reader(daemon, task_id, seed, query) for seed in range(4)]
    for share in (0.2, 0.5, 0.8):
        wait_for(lambda s=share: log(daemon, task_id).exists() and log(daemon, task_id).stat().st_size >= TOTAL * s)
        daemon.restart()
    task = daemon.wait(task_id)
    late = [Reader(daemon, task_id, seed, query) for seed in (6, 7)]
    for reader in readers + late:
        reader.join()
    assert (task["outcome"], task["output"]["bytes"]) == ("succeeded", TOTAL)
    final = [(gap["offset"], gap["offset"] + gap["bytes"]) for gap in task["output"]["gaps"]]
    for reader in readers + late:
        parts = sorted([*((at, at + len(data)) for at, data in reader.pieces), *reader.gaps])
        assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == TOTAL
        for at, data in reader.pieces:
            assert data == expected[at : at + len(data)]
        for begin, end in reader.gaps:
            assert any(first <= begin and end <= last for first, last in final)
    assert all(reader.gaps == final for reader in late)
    assert sum(reader.connections for reader in readers) >= 8
    if limit is None:
        assert final == [] and all(reader.gaps == [] for reader in readers)
        assert task["output"]["sha256"] == hashlib.sha256(expected).hexdigest()
    else:
        ((first, last),) = final
        assert task["output"]["sha256"] == hashlib.sha256(expected[:first] + expected[last:]).hexdigest()
        assert LIMIT <= TOTAL - (last - first) <= LIMIT + 2 * BLOCK


def test_a_follower_that_lags_behind_a_growing_gap_is_told_so(shared: Daemon):
    """It stops reading while the command writes far more than connections hold, and the runner frees it."""
    size = 40_000_000
    script = f"echo begin; {UNTIL_GO}; {sys.executable} -c '{CODE}' {size}"
    task_id = shared.submit("sh", "-c", script, maxOutputBytes=LIMIT)
    expected = b"begin\n" + random.Random(7).randbytes(size)
    at, missing = 0, 0
    with followed(shared, task_id, Accept="text/event-stream") as stream:
        told = events(stream.iter_lines())
        first = next(told)
        assert content(first) == b"begin\n"
        go(shared, task_id)
        assert shared.wait(task_id)["outcome"] == "succeeded"
        at = 6
        for event in told:
            if event["event"] == "output":
                assert event["data"]["offset"] == at
                data = content(event)
                assert data == expected[at : at + len(data)]
                at += len(data)
            elif event["event"] == "gap":
                assert event["data"]["offset"] == at
                at += event["data"]["bytes"]
                missing += event["data"]["bytes"]
    assert at == size + 6
    assert missing > 0

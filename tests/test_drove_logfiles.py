"""Log files as Drove's clients read them: listed, read from an offset, downloaded. Real tasks of Podman."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import wait_for
from droving import APP, Drove, drove_daemon, start_held
from engines import PodmanServer

from task_runner.api.dialects.drove.logfiles import CHUNK, files, text_of

real = [pytest.mark.needs("root"), pytest.mark.needs("podman"), pytest.mark.needs("runc")]
LOG = f"/apis/v1/logfiles/tasks/{APP}"
#: 7 characters, 10 bytes
SNOW = "a\N{SNOWMAN}b\N{LATIN SMALL LETTER E WITH ACUTE}c\nd"
NEGATIVE = {"error": "Error reading file output.log: Negative seek offset"}


@pytest.fixture(scope="module")
def drove(podman_server: PodmanServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drove]:
    daemon = drove_daemon(tmp_path_factory.mktemp("logs"), podman_server.sockets)
    try:
        yield Drove(start_held(daemon))
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def snow(drove: Drove) -> str:
    """A task that has written SNOW, and is over."""
    name = drove.create("sh", "-c", f"printf '{SNOW}'")
    drove.wait(name)
    return name


@pytest.fixture(scope="module")
def long(drove: Drove) -> str:
    """One that has written more than is kept: lines of seven digits, 1,600,000 bytes."""
    name = drove.create(
        "sh", "-c", "seq 1000000 1199999", logging={"type": "LOCAL", "maxSize": "100k", "maxFiles": 2, "compress": False}
    )
    drove.wait(name)
    return name


def read(drove: Drove, name: str, query: str = "", file: str = "output.log") -> tuple[int, Any]:
    answer = drove.get(f"{LOG}/{name}/read/{file}?{query}")
    return answer.status_code, answer.json() if answer.content else None


class TestReal:
    pytestmark = real

    @pytest.mark.parametrize(
        ("query", "status", "body"),
        [
            ("", 200, {"data": "", "offset": 10}),
            ("offset=-1&length=-1", 200, {"data": "", "offset": 10}),
            ("offset=0", 200, {"data": SNOW, "offset": 0}),
            ("offset=0&length=-1", 200, {"data": SNOW, "offset": 0}),
            ("offset=9", 200, {"data": "d", "offset": 9}),
            ("offset=10", 200, {"data": "", "offset": 10}),
            ("offset=1000000000000", 200, {"data": "", "offset": 1_000_000_000_000}),
            ("offset=0&length=0", 200, {"data": "", "offset": 0}),
            ("offset=0&length=1", 200, {"data": "a", "offset": 0}),
            ("offset=0&length=1000000000", 200, {"data": SNOW, "offset": 0}),
            ("length=10", 400, NEGATIVE),
            ("offset=-1&length=10", 400, NEGATIVE),
            ("offset=-2", 400, NEGATIVE),
            ("offset=0&length=-2", 400, NEGATIVE),
            ("offset=x", 400, {"error": "Error reading file output.log: offset: a whole number is expected, this is 'x'"}),
        ],
    )  # fmt: skip
    def test_what_is_read(self, drove: Drove, snow: str, query: str, status: int, body: Any) -> None:
        assert read(drove, snow, query) == (status, body)

    def test_a_file_is_listed_read_and_downloaded(self, drove: Drove, snow: str) -> None:
        listed = drove.get(f"{LOG}/{snow}/list")
        assert (listed.status_code, listed.json()) == (200, {"files": ["output.log"]})
        loaded = drove.get(f"{LOG}/{snow}/download/output.log")
        assert (loaded.status_code, loaded.content) == (200, SNOW.encode())
        assert loaded.headers["content-type"] == "text/plain; charset=utf-8"
        assert loaded.headers["content-disposition"] == "attachment; filename=output.log"
        renamed = drove.get(f"{LOG}/{snow}/download/output.log?rename=true")
        assert renamed.headers["content-disposition"] == f"attachment; filename={APP}-{snow}-output.log"

    @pytest.mark.parametrize("file", ["other.log", "output.1.log", "..%2F..%2Fspec.json", "../../spec.json", "%2Fetc%2Fpasswd"])
    @pytest.mark.parametrize("verb", ["read", "download"])
    def test_no_other_file_is_to_be_had(self, drove: Drove, snow: str, verb: str, file: str) -> None:
        answer = drove.get(f"{LOG}/{snow}/{verb}/{file}")
        assert answer.status_code == 404
        assert b"alias" not in answer.content
        assert b"root:" not in answer.content
        if "/" not in file:
            shown = file.replace("%2F", "/")
            assert answer.json() == {"error": f"Error reading file {shown}: No such file"}

    def test_of_a_task_that_is_not_there_nothing_is_said(self, drove: Drove) -> None:
        for path in ("list", "read/output.log?offset=0", "download/output.log"):
            answer = drove.get(f"{LOG}/nobody/{path}")
            assert (answer.status_code, answer.content) == (204, b"")

    def test_what_has_written_nothing_yet_reads_as_empty(self, drove: Drove) -> None:
        with drove.hold("container.pulled"):
            name = drove.create("true")
            assert read(drove, name) == (200, {"data": "", "offset": 0})
            assert read(drove, name, "offset=0") == (200, {"data": "", "offset": 0})
            assert drove.get(f"{LOG}/{name}/download/output.log").content == b""
        drove.wait(name)

    def test_a_character_that_is_half_written_is_held_back_until_it_is_whole_or_never_will_be(self, drove: Drove) -> None:
        name = drove.create(*drove.until_told("rest", say="printf '\\203\\342';"))
        drove.wait(name, "RUNNING")
        path = drove.daemon.state.tasks.attempt(drove.id_of(name), 1).output
        wait_for(lambda: read(drove, name, "offset=0")[1]["data"] == "up\n", "it has written")
        with open(path, "ab") as log:
            log.write(b"\xe2\x98")  # as if the container had
        assert read(drove, name, "offset=3") == (200, {"data": "", "offset": 3})
        assert read(drove, name) == (200, {"data": "", "offset": 5})
        drove.tell("rest")
        drove.wait(name)
        assert read(drove, name, "offset=3") == (200, {"data": "\N{SNOWMAN}\N{REPLACEMENT CHARACTER}", "offset": 3})

    def test_who_counts_bytes_reads_all_that_is_kept_and_learns_what_is_not(self, drove: Drove, long: str) -> None:
        size = read(drove, long)[1]["offset"]
        assert size == 1_600_000
        offset, kept, marks = 0, [], []
        while (found := read(drove, long, f"offset={offset}")[1])["data"]:
            data = found["data"].encode()
            if found["offset"] == offset:
                assert len(data) <= CHUNK
                kept.append((offset, data))
            else:
                marks.append(found["data"])
            offset = found["offset"] + len(data)
        assert offset == size
        missing = size - sum(len(data) for _at, data in kept)
        assert marks == [f"\n[... {missing} bytes not kept ...]\n"]
        assert 200_000 <= size - missing < 220_000
        whole = b"".join(b"%d\n" % number for number in range(1_000_000, 1_200_000))
        assert all(whole[at : at + len(data)] == data for at, data in kept)
        gap = sum(len(data) for at, data in kept if at < size // 2)
        loaded = drove.get(f"{LOG}/{long}/download/output.log").content
        assert loaded == whole[:gap] + marks[0].encode() + whole[gap + missing :]

    def test_within_what_is_not_kept_the_answer_says_so_and_where_to_go_on(self, drove: Drove, long: str) -> None:
        status, found = read(drove, long, "offset=800000&length=10")
        assert status == 200
        assert found["data"].startswith("\n[... ")
        behind = found["offset"] + len(found["data"])
        assert f" {behind - 800_000} bytes not kept" in found["data"]
        following = read(drove, long, f"offset={behind}&length=16")[1]
        whole = b"".join(b"%d\n" % number for number in range(1_000_000, 1_200_000))
        assert following == {"data": whole[behind : behind + 16].decode(), "offset": behind}

    def test_each_attempt_has_a_file(self, drove: Drove) -> None:
        name = drove.create("sh", "-c", "[ -e /s/second ] && echo two && exit; touch /s/second; echo one")
        drove.wait(name)
        drove.daemon.post(f"/v1/tasks/{drove.id_of(name)}/retry")
        wait_for(lambda: read(drove, name, "offset=0")[1]["data"] == "two\n", "it has run again")
        assert drove.get(f"{LOG}/{name}/list").json() == {"files": ["output.log", "output.1.log"]}
        assert read(drove, name, "offset=0", "output.1.log") == (200, {"data": "one\n", "offset": 0})
        drove.wait(name)


    def test_what_was_freed_is_not_said_to_be_empty(self, drove: Drove) -> None:
        name = drove.create("echo", "here")
        drove.wait(name)
        os.unlink(drove.daemon.state.tasks.attempt(drove.id_of(name), 1).output)  # as the quota does
        assert drove.get(f"{LOG}/{name}/list").json() == {"files": []}
        for verb in ("read", "download"):
            answer = drove.get(f"{LOG}/{name}/{verb}/output.log")
            assert answer.status_code == 404
            assert "the output of this task, 5 bytes, is not kept any more" in answer.json()["error"]


# -- pure


def test_the_files_of_a_task_are_those_of_its_attempts() -> None:
    assert files(1) == {"output.log": 1}
    assert files(3) == {"output.log": 3, "output.1.log": 1, "output.2.log": 2}


@pytest.mark.parametrize("most", range(1, 12))
@pytest.mark.parametrize("text", [SNOW, "\U0001f4a9" * 5, "plain", "\N{EURO SIGN}x\U0001f4a9\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_in_pieces_of_any_size_who_counts_bytes_reads_the_whole_text(text: str, most: int) -> None:
    data, offset, found = text.encode(), 0, ""
    while offset < len(data):
        piece = text_of(data[offset : offset + most + 4], most, last=False)
        assert piece
        assert len(piece.encode()) <= max(most, 4)
        found += piece
        offset += len(piece.encode())
    assert found == text


@pytest.mark.parametrize(
    ("data", "most", "last", "text"),
    [
        (b"a\xe2\x98", 10, False, "a"),
        (b"a\xe2\x98", 10, True, "a\N{REPLACEMENT CHARACTER}"),
        (b"\xe2\x98", 10, False, ""),
        # no character at all: nothing is waited for
        (b"a\xff", 10, False, "a\N{REPLACEMENT CHARACTER}"),
        (b"a\x98\x98\x98\x98", 10, False, "a" + 4 * "\N{REPLACEMENT CHARACTER}"),
        (b"\xff\xff\xff", 1, False, "\N{REPLACEMENT CHARACTER}"),
        (b"\xe2\xe2\xe2\xe2\xe2\xe2", 1, False, "\N{REPLACEMENT CHARACTER}"),
        # in the middle of one
        (b"\x98\x83b", 10, False, 2 * "\N{REPLACEMENT CHARACTER}" + "b"),
        (b"abc", 0, False, ""),
    ],
)
def test_bytes_that_are_no_text(data: bytes, most: int, last: bool, text: str) -> None:
    assert text_of(data, most, last=last) == text

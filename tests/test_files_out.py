"""What a task has in its working directory is listed, fetched and packed, by HTTP, the client and the command line."""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import socket
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import pytest
from conftest import PATIENCE, Daemon, wait_for
from nursery import run_verb

from task_runner.api.files import parse_range
from task_runner.client import ApiError, Client, Conflict

MAKE = """
mkdir -p out/deep; printf 0123456789 > out/digits; printf x > out/deep/x; ln -s digits out/link; mkfifo out/fifo
ln out/digits out/hard; chmod 750 out/digits; : > empty
"""


@pytest.fixture(scope="module")
def made(shared: Daemon) -> str:
    """A task that has made one of everything."""
    task_id = shared.submit("sh", "-ec", MAKE)
    assert shared.wait(task_id)["outcome"] == "succeeded"
    # no file was changed so lately that its tag is weak
    for path in work(shared, task_id).rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return task_id


def work(daemon: Daemon, task_id: str) -> Path:
    return Path(daemon.state.tasks.attempt(task_id, 1).work)


def get(daemon: Daemon, task_id: str, path: str = "", **options: Any) -> httpx.Response:
    return daemon.http.get(f"/v1/tasks/{task_id}/files{path}", **options)


def paths(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry["path"] for entry in response.json()]


def refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.content[:1000]
    assert response.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in response.json()["detail"]


# -- lists


def test_a_list_says_what_there_is(shared: Daemon, made: str):
    assert paths(get(shared, made)) == ["empty", "out"]
    entries = {entry["path"]: entry for entry in get(shared, made, "/out").json()}
    assert list(entries) == ["out/deep", "out/digits", "out/fifo", "out/hard", "out/link"]
    assert entries["out/digits"] == {
        "path": "out/digits",
        "pathBase64": None,
        "href": f"/v1/tasks/{made}/files/out/digits",
        "kind": "file",
        "bytes": 10,
        "modifiedAt": "2001-09-09T01:46:40.000000Z",
        "mode": "0750",
        "target": None,
        "targetBase64": None,
        "error": None,
    }
    assert {each: entries[f"out/{each}"]["kind"] for each in ("deep", "fifo", "hard", "link")} == {
        "deep": "directory",
        "fifo": "fifo",
        "hard": "file",
        "link": "link",
    }
    assert entries["out/link"]["target"] == "digits"
    assert entries["out/deep"]["bytes"] is None


def test_a_recursive_list_in_pages_has_every_name_once(shared: Daemon, made: str):
    everything = ["empty", "out", "out/deep", "out/deep/x", "out/digits", "out/fifo", "out/hard", "out/link"]
    assert paths(get(shared, made, "?recursive=true")) == everything
    for limit in (1, 3):
        found: list[str] = []
        response = get(shared, made, f"?recursive=true&limit={limit}")
        while True:
            assert len(response.json()) <= limit
            found += paths(response)
            if "next" not in response.links:
                break
            response = shared.http.get(response.links["next"]["url"])
        assert found == everything


def test_a_file_can_be_listed_as_itself(shared: Daemon, made: str):
    assert paths(get(shared, made, "/out/fifo?list=true")) == ["out/fifo"]
    assert paths(get(shared, made, "/out/deep?list=true")) == ["out/deep/x"]


def test_a_task_that_has_not_started_has_no_files_yet(shared: Daemon):
    shared.post("/v1/node/drain")
    try:
        task_id = shared.submit("true")
        assert paths(get(shared, task_id)) == []
        refused(get(shared, task_id, "/x"), 404, "'x'")
    finally:
        shared.post("/v1/node/undrain")


def test_files_are_there_while_the_task_runs(shared: Daemon):
    task_id = shared.submit("sh", "-c", "echo so far > log; while [ ! -e stop ]; do sleep 0.1; done")
    # the shell makes the file before it writes to it
    wait_for(lambda: (found := get(shared, task_id, "/log")).status_code == 200 and found.content == b"so far\n")
    assert tarball(get(shared, task_id, "?archive=tar").content) == {"log": b"so far\n"}
    (work(shared, task_id) / "stop").touch()
    assert shared.wait(task_id)["outcome"] == "succeeded"


def test_a_name_that_is_not_utf8_is_shown_and_can_be_fetched(shared: Daemon):
    task_id = shared.submit("sh", "-c", r"""printf one > "$(printf 'b\377d')"; printf two > 'a?b#c%20 ü'""")
    shared.wait(task_id)
    text, strange = get(shared, task_id).json()
    assert (text["path"], text["pathBase64"]) == ("a?b#c%20 ü", None)
    assert (strange["path"], base64.b64decode(strange["pathBase64"])) == (None, b"b\xffd")
    assert [shared.http.get(each["href"]).content for each in (text, strange)] == [b"two", b"one"]
    assert tarball(get(shared, task_id, "?archive=tar.gz").content) == {"a?b#c%20 ü": b"two", "b\udcffd": b"one"}
    with zipfile.ZipFile(io.BytesIO(get(shared, task_id, "?archive=zip").content)) as found:
        assert {info.filename.encode("cp437" if not info.flag_bits & 0x800 else "utf-8") for info in found.filelist} == {
            "a?b#c%20 ü".encode(),
            b"b\xffd",
        }


# -- a file


def test_a_file_is_sent_as_bytes_that_no_browser_runs(shared: Daemon, made: str):
    response = get(shared, made, "/out/digits")
    assert (response.status_code, response.content) == (200, b"0123456789")
    wanted = {
        "content-type": "application/octet-stream",
        "x-content-type-options": "nosniff",
        "content-disposition": "attachment; filename=\"digits\"; filename*=UTF-8''digits",
        "content-length": "10",
        "accept-ranges": "bytes",
        "last-modified": "Sun, 09 Sep 2001 01:46:40 GMT",
    }
    assert {name: response.headers[name] for name in wanted} == wanted
    assert get(shared, made, "/empty").content == b""
    assert get(shared, made, "//out/./digits").content == b"0123456789"


def test_head_says_the_same_without_the_content(shared: Daemon, made: str):
    whole = get(shared, made, "/out/digits")
    head = shared.http.head(f"/v1/tasks/{made}/files/out/digits")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "last-modified", "content-type"):
        assert head.headers[name] == whole.headers[name]
    assert shared.http.head(f"/v1/tasks/{made}/files").status_code == 200
    assert shared.http.head(f"/v1/tasks/{made}/files?archive=tar").status_code == 200
    assert shared.http.head(f"/v1/tasks/{made}/files/nothing").status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "content", "says"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_range_of_a_file(
    shared: Daemon, made: str, asked: str, status: int, content: bytes, says: str | None
):
    response = get(shared, made, "/out/digits", headers={"Range": asked})
    assert (response.status_code, b"" if status == 416 else response.content) == (status, content)
    assert response.headers.get("content-range") == says


def test_ranges_are_parsed():
    assert parse_range("bytes=0-", 0) == range(0)
    assert parse_range("bytes=-", 5) is None
    assert parse_range("bytes=-9", 5) == range(5)


def test_a_tag_saves_what_has_come_and_only_of_the_same_file(shared: Daemon, made: str):
    tag = get(shared, made, "/out/digits").headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f'"x", W/{tag}', "*"):
        assert get(shared, made, "/out/digits", headers={"If-None-Match": known}).status_code == 304
    part = {"Range": "bytes=8-"}
    assert get(shared, made, "/out/digits", headers={**part, "If-Range": tag}).content == b"89"
    assert get(shared, made, "/out/digits", headers={**part, "If-Range": '"other"'}).content == b"0123456789"
    assert get(shared, made, "/out/digits", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_file_changed_just_now_has_a_tag_that_proves_nothing(shared: Daemon):
    task_id = shared.submit("touch", "x")
    shared.wait(task_id)

    def tag_of_change() -> str:
        (work(shared, task_id) / "x").write_bytes(b"123")
        return str(get(shared, task_id, "/x").headers["etag"])

    # again, should the answer have taken so long that the change is none of just now any more
    tag = wait_for(lambda: (found := tag_of_change()).startswith('W/"') and found, "a weak tag")
    assert get(shared, task_id, "/x", headers={"Range": "bytes=1-", "If-Range": tag}).status_code == 200


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(shared: Daemon):
    task_id = shared.submit("true")
    shared.wait(task_id)
    big = work(shared, task_id) / "big"
    with open(big, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream(
        "GET", f"{shared.url}/v1/tasks/{task_id}/files/big", headers=shared.http.headers, timeout=PATIENCE
    ) as response:
        assert response.headers["content-length"] == str(2**30)
        chunks = response.iter_raw()
        next(chunks)
        os.truncate(big, 1000)
        for _chunk in chunks:
            pass
    wait_for(lambda: "become shorter" in shared.log.read_text())
    big.unlink()


# -- refusals


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nothing", 404, ["'nothing'"]),
        ("/out/nothing/deep", 404, ["'out/nothing/deep'"]),
        ("/empty/x", 404, ["'empty/x'", "not a directory"]),
        ("/out/link", 409, ["'out/link'", "'digits'", "not followed"]),
        ("/out/fifo", 409, ["'out/fifo'", "fifo"]),
        ("/%2e%2e/spec.json", 400, ["'..'"]),
        ("/out/..%2f..%2f..%2fspec.json", 400, ["'..'"]),
        ("/out/%00", 400, ["NUL"]),
        ("/" + "x" * 256, 400, ["255"]),
        ("/" + "/".join(["x" * 100] * 45), 400, ["4095"]),
        ("/out/digits?archive=tar", 400, ["archive", "no directory"]),
        ("/nothing?archive=tar", 404, ["'nothing'"]),
        ("?archive=rar", 400, ["archive", "tar.gz"]),
        ("?recursiv=true", 400, ["recursiv", "recursive"]),
        ("?limit=0", 400, ["limit", "10000"]),
        ("?limit=10001", 400, ["limit", "10000"]),
        ("?cursor=..", 400, ["'..'"]),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(
    shared: Daemon, made: str, path: str, status: int, words: list[str]
):
    refused(get(shared, made, path), status, *words)


@pytest.mark.parametrize("target", ["../spec.json", "..", "../../../token", "out/../../spec.json", "/etc/passwd", "%2Fetc%2Fpasswd"])
def test_a_path_that_no_client_cleans_up_does_not_lead_out(shared: Daemon, made: str, target: str):
    with socket.create_connection(("127.0.0.1", int(shared.url.rsplit(":", 1)[1])), timeout=PATIENCE) as raw:
        head = f"GET /v1/tasks/{made}/files/{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        raw.sendall(f"{head}Authorization: Bearer {shared.token}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split()[1] in (b"400", b"404")
    assert b"root:" not in answer
    assert b'"actions"' not in answer


def test_an_unknown_task_has_no_files(shared: Daemon):
    refused(get(shared, "0" * 16), 404)


def test_a_working_directory_that_is_a_link_is_not_looked_into(shared: Daemon, tmp_path: Path):
    (tmp_path / "file").write_text("secret")
    task_id = shared.submit("true")
    shared.wait(task_id)
    work(shared, task_id).rmdir()
    work(shared, task_id).symlink_to(tmp_path)
    refused(get(shared, task_id), 404)
    refused(get(shared, task_id, "/file"), 404)
    refused(get(shared, task_id, "?archive=tar"), 404)


def test_files_count_as_streams(make_daemon: Any):
    daemon = make_daemon(max_streams=1).start()
    task_id = daemon.submit("true")
    daemon.wait(task_id)
    with open(work(daemon, task_id) / "big", "wb") as file:
        file.truncate(2**30)
    with daemon.http.stream("GET", f"/v1/tasks/{task_id}/files/big") as response:
        chunks = response.iter_raw()
        next(chunks)
        for path in ("/big", "?archive=tar"):
            refused(get(daemon, task_id, path), 503, "max_streams")
    wait_for(lambda: get(daemon, task_id, "/big", headers={"Range": "bytes=0-9"}).status_code == 206)


def test_a_reader_that_hangs_up_leaves_no_file_open(shared: Daemon):
    task_id = shared.submit("true")
    shared.wait(task_id)
    with open(work(shared, task_id) / "big", "wb") as file:
        file.truncate(2**30)

    def target(name: str) -> str:
        try:
            return os.readlink(f"/proc/{shared.pid}/fd/{name}")
        except FileNotFoundError:
            return ""  # closed since it was listed

    def open_here() -> list[str]:
        return [found for each in os.listdir(f"/proc/{shared.pid}/fd") if task_id in (found := target(each))]

    for path in ("/big", "?archive=tar", "?archive=zip"):
        url = f"{shared.url}/v1/tasks/{task_id}/files{path}"
        with httpx.stream("GET", url, headers=shared.http.headers, timeout=PATIENCE, verify=False) as response:
            next(response.iter_raw())
    wait_for(lambda: not open_here(), "the daemon lets go of the files")


# -- archives


def tarball(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as found:
        return {member.name: (found.extractfile(member) or io.BytesIO()).read() for member in found if member.isfile()}


def test_a_tar_holds_everything_and_follows_nothing(shared: Daemon, made: str):
    for kind in ("tar", "tar.gz"):
        response = get(shared, made, f"/out?archive={kind}")
        assert response.headers["content-disposition"].startswith(f'attachment; filename="out.{kind}"')
        with tarfile.open(fileobj=io.BytesIO(response.content), mode="r:*") as found:
            members = {member.name: member for member in found}
            assert list(members) == ["deep", "deep/x", "digits", "hard", "link", "task-runner-notes.txt"]
            assert (members["link"].issym(), members["link"].linkname) == (True, "digits")
            assert (members["digits"].mode, members["digits"].mtime) == (0o750, 1_000_000_000)
            assert members["hard"].isfile()
            assert members["deep"].isdir()
            notes = found.extractfile("task-runner-notes.txt")
            assert notes is not None
            assert notes.read() == b"'out/fifo': left out: it is a fifo\n"


def test_a_zip_holds_everything_and_follows_nothing(shared: Daemon, made: str):
    response = get(shared, made, "?archive=zip")
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as found:
        assert found.testzip() is None
        names = ["empty", "out/", "out/deep/", "out/deep/x", "out/digits", "out/hard", "out/link", "task-runner-notes.txt"]
        assert found.namelist() == names
        assert found.read("out/digits") == b"0123456789"
        link = found.getinfo("out/link")
        assert (link.external_attr >> 28, found.read(link)) == (0o12, b"digits")
        assert found.getinfo("out/digits").external_attr >> 16 == 0o100750


@pytest.mark.needs("unzip")
def test_unzip_likes_the_zip(shared: Daemon, made: str, tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(get(shared, made, "/out?archive=zip").content)
    subprocess.run(["unzip", "-q", "x.zip", "-d", "x"], cwd=tmp_path, check=True, timeout=PATIENCE)
    assert (tmp_path / "x" / "link").read_bytes() == b"0123456789"
    assert (tmp_path / "x" / "link").is_symlink()


def test_tar_likes_the_tar(shared: Daemon, made: str, tmp_path: Path):
    data = get(shared, made, "?archive=tar.gz").content
    subprocess.run(["tar", "-xz"], input=data, cwd=tmp_path, check=True, timeout=PATIENCE)
    assert (tmp_path / "out/link").read_bytes() == b"0123456789"


def test_names_and_sizes_beyond_what_old_formats_hold(shared: Daemon):
    task_id = shared.submit("true")
    shared.wait(task_id)
    long = "/".join(["n" * 120] * 4)
    (work(shared, task_id) / long).parent.mkdir(parents=True)
    (work(shared, task_id) / long).write_bytes(b"long")
    (work(shared, task_id) / "set-user-id").touch()
    (work(shared, task_id) / "set-user-id").chmod(0o4755)
    os.utime(work(shared, task_id) / "set-user-id", (-5, -5))
    data = get(shared, task_id, "?archive=tar").content
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert found.getmember("set-user-id").mode == 0o755
        assert found.getmember("set-user-id").mtime == -5
    assert tarball(data)[long] == b"long"
    with zipfile.ZipFile(io.BytesIO(get(shared, task_id, "?archive=zip").content)) as found:
        assert found.read(long) == b"long"
        assert found.getinfo("set-user-id").date_time == (1980, 1, 1, 0, 0, 0)


def test_an_archive_of_many_files_needs_little_memory(shared: Daemon):
    task_id = shared.submit("sh", "-c", "mkdir d; cd d; seq 1 1500 | xargs touch; head -c 100000000 /dev/zero > ../zeros")
    assert shared.wait(task_id)["outcome"] == "succeeded"
    get(shared, task_id, "/d?archive=tar.gz")

    def peak() -> int:
        status = Path(f"/proc/{shared.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    before = peak()
    with shared.http.stream("GET", f"/v1/tasks/{task_id}/files?archive=tar.gz") as response:
        assert sum(len(chunk) for chunk in response.iter_raw()) < 1_000_000
    assert peak() - before < 30_000  # KiB; the files are 100 MB


def test_a_file_swapped_for_a_link_while_requests_run_never_shows_the_secret(shared: Daemon, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"the secret that stands outside")
    task_id = shared.submit("sh", "-c", "mkdir d; printf content > d/file")
    shared.wait(task_id)
    place = work(shared, task_id)
    (place / "link").symlink_to(os.path.relpath(tmp_path, place))
    (place / "flink").symlink_to(os.path.relpath(secret, place))
    (tmp_path / "file").symlink_to("secret")
    end, libc = threading.Event(), ctypes.CDLL(None)
    pairs = [(os.fsencode(place / "d"), os.fsencode(place / "link"))]

    def swap() -> None:
        while not end.is_set():
            for one, other in pairs:
                libc.renameat2(-100, one, -100, other, 2)

    swapper = threading.Thread(target=swap)
    swapper.start()
    met = {"good": 0, "refused": 0}
    try:

        def met_both() -> bool:
            for path in ("/d/file", "?recursive=true", "/d?archive=tar", "?archive=tar"):
                data = get(shared, task_id, path)
                assert b"the secret" not in data.content
                met["good" if b"content" in data.content else "refused"] += 1
            return min(met.values()) > 20

        wait_for(met_both)
    finally:
        end.set()
        swapper.join()


# -- the client and the command line


def test_the_client_lists_reads_and_packs(shared: Daemon, made: str):
    with Client(shared.url, shared.token) as client:
        assert [each["path"] for each in client.files.list(made, recursive=True)][:3] == ["empty", "out", "out/deep"]
        assert b"".join(client.files.read(made, "out/digits")) == b"0123456789"
        assert tarball(b"".join(client.files.archive(made, "out/deep"))) == {"x": b"x"}
        with pytest.raises(ApiError) as caught:
            list(client.files.read(made, "nothing"))
        assert caught.value.status == 404


class Half(threading.Thread):
    """A server that breaks off after a part of a file, and then sends what is asked for: of the same file, or not."""

    def __init__(self, same: bool) -> None:
        super().__init__(daemon=True)
        self._same = same
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []

    def run(self) -> None:
        for answer in (
            'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 10\r\n\r\n0123',
            'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nContent-Length: 6\r\nConnection: close\r\n\r\n456789'
            if self._same
            else 'HTTP/1.1 200 OK\r\nETag: "b"\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz',
        ):
            connection, _ = self._listener.accept()
            with connection:
                self.asked.append(connection.recv(65536).decode().lower())
                connection.sendall(answer.encode())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.close()
        self.join(PATIENCE)


def test_the_client_goes_on_where_the_connection_broke():
    with Half(same=True) as server, Client(server.url, "token", patience=PATIENCE) as client:
        assert b"".join(client.files.read("a" * 16, "x")) == b"0123456789"
        assert "range: bytes=4-" in server.asked[1]
        assert 'if-range: "a"' in server.asked[1]


def test_the_client_does_not_glue_two_files_together():
    with Half(same=False) as server, Client(server.url, "token", patience=PATIENCE) as client:
        content = client.files.read("a" * 16, "x")
        assert next(content) == b"0123"
        with pytest.raises(Conflict, match="has changed"):
            next(content)


def run(daemon: Daemon, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return run_verb(*arguments, env=daemon.env, cwd=cwd, timeout=PATIENCE)


def test_the_command_line_lists(shared: Daemon, made: str, tmp_path: Path):
    listed = run(shared, "files", made, "out", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.decode().splitlines()
    assert lines[0].split() == ["MODE", "SIZE", "MODIFIED", "PATH"]
    names = ["out/deep/", "out/digits", "out/fifo (fifo)", "out/hard", "out/link -> digits"]
    assert [line[line.index("out/") :] for line in lines[1:]] == names
    found = json.loads(run(shared, "files", made, "-r", "--json", cwd=tmp_path).stdout)
    assert [each["path"] for each in found][-1] == "out/link"


def test_the_command_line_fetches_whole_files_and_overwrites_none(shared: Daemon, made: str, tmp_path: Path):
    assert run(shared, "get", made, "out/digits", "-o", "-", cwd=tmp_path).stdout == b"0123456789"
    assert run(shared, "get", made, "out/digits", cwd=tmp_path).returncode == 0
    assert (tmp_path / "digits").read_bytes() == b"0123456789"
    (tmp_path / "digits").write_text("mine")
    again = run(shared, "get", made, "out/digits", cwd=tmp_path)
    assert (again.returncode, (tmp_path / "digits").read_text()) == (4, "mine")
    assert b"--force" in again.stderr
    assert run(shared, "get", "-f", made, "out/digits", cwd=tmp_path).returncode == 0
    assert (tmp_path / "digits").read_bytes() == b"0123456789"
    (tmp_path / "here").mkdir()
    done = run(shared, "get", made, "out", "--archive", "tar", "-o", "here", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["file"] == "here/out.tar"
    assert "digits" in tarball((tmp_path / "here" / "out.tar").read_bytes())


def test_the_command_line_leaves_nothing_of_a_file_that_cannot_be_fetched(shared: Daemon, made: str, tmp_path: Path):
    for arguments, code in (
        (["out/nothing"], 3),
        (["out/link"], 4),
        (["out", "-o", "x/y/z"], 5),
        ([], 2),
        (["out/digits", "-o", "no/such/place"], 5),
    ):
        done = run(shared, "get", made, *arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_name_cannot_steer_the_terminal(shared: Daemon, tmp_path: Path):
    task_id = shared.submit("sh", "-c", r"""touch "$(printf 'a\033[2Jb')" "$(printf 'c\377d')" """)
    shared.wait(task_id)
    shown = run(shared, "files", task_id, cwd=tmp_path).stdout.decode()
    assert "\x1b" not in shown
    assert r"c\xffd" in shown
    assert quote("\x1b") in json.dumps(get(shared, task_id).json())

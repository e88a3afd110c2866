"""Podman and the Docker Engine: what is their own, beside what every engine does (test_engine_contract.py)."""

from __future__ import annotations

import json
import random
import socketserver
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, wait_for
from engines import DockerServer, PodmanServer, Server
from images import BUSYBOX_IMAGE

from task_runner.engines import creation, enginelog, linelog, listing, recordlog
from task_runner.engines.base import Engine, Order
from task_runner.engines.find import available, open_engine
from task_runner.engines.frames import PIECE, frames, mended, skipping
from task_runner.engines.layers import Layers
from task_runner.errors import EngineFailed, EngineMissing
from task_runner.model.walls import TaskLimits
from task_runner.service.containers import Containers
from task_runner.service.settings import Settings

PODMAN = pytest.mark.needs("root", "podman", "runc", "busybox", "curl")
DOCKER = pytest.mark.needs("root", "dockerd", "docker", "containerd", "runc", "busybox", "curl")
ENGINES = [pytest.param("podman", marks=PODMAN), pytest.param("docker", marks=DOCKER)]


# -- frames of the API

FRAMES = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x04two\n"


@pytest.mark.parametrize("size", [1, 2, 7, 9, 100])
def test_frames_are_read_wherever_they_are_cut(size: int) -> None:
    chunks = [FRAMES[at : at + size] for at in range(0, len(FRAMES), size)]
    assert list(frames(chunks)) == [(1, b"one"), (2, b""), (2, b"two\n")]
    assert list(frames([FRAMES[:-1]])) == [(1, b"one"), (2, b"")]


def test_only_the_first_bytes_of_each_stream_are_skipped() -> None:
    pairs = [(1, b"abc"), (2, b"xyz"), (1, b"def")]
    assert list(skipping(pairs, {1: 4, 2: 1})) == [(2, b"yz"), (1, b"ef")]
    assert list(skipping(pairs, {})) == pairs
    assert list(skipping(pairs, {1: 6, 2: 3})) == []


FULL = b"x" * PIECE
MENDED_CASES = [
    ([(1, FULL), (1, b"end"), (1, b"next\n")], [(1, FULL), (1, b"end"), (1, b"\n"), (1, b"next\n")]),
    ([(1, FULL), (2, b"e\n"), (1, b"end"), (2, b"f\n")], [(1, FULL), (2, b"e\n"), (1, b"end"), (2, b"f\n")]),
    ([(1, FULL), (1, b"end\n"), (1, b"next\n")], [(1, FULL), (1, b"end\n"), (1, b"next\n")]),
    ([(1, FULL), (1, FULL), (1, b"end")], [(1, FULL), (1, FULL), (1, b"end")]),
    ([(1, b"a\n"), (1, b"no newline")], [(1, b"a\n"), (1, b"no newline")]),
]


@pytest.mark.parametrize(("sent", "written"), MENDED_CASES)
def test_newlines_that_the_api_loses_are_put_back(sent: list[Any], written: list[Any]) -> None:
    assert list(mended(sent)) == written


# -- files of logs


def record(name: bytes, line: bytes, piece: bytes | None = None) -> bytes:
    """As Docker writes it; ``piece``: the message about a piece of a line."""
    length = bytes([len(line) & 0x7F | 0x80, len(line) >> 7])
    message = b"\x0a\x06" + name + b"\x10\x80\x80\x01" + b"\x1a" + length + line
    if piece is not None:
        message += b"\x20\x01\x2a" + bytes([len(piece)]) + piece
    size = len(message).to_bytes(4, "big")
    return size + message + size


LAST, NOT_LAST = b"\x08\x01\x12\x02id\x18\x02", b"\x12\x02id\x18\x01"
RECORDS = (
    record(b"stdout", b"line") + record(b"stderr", b"begin", NOT_LAST) + record(b"stderr", b"end", LAST)
)  # fmt: skip
LINES = b"2026-11-21T16:00:05.4832Z stdout F line\n2026-11-21T16:00:05.48Z stderr P begin\n2026 stderr F end\n"
SAID = [(1, b"line\n"), (2, b"begin"), (2, b"end\n")]


@pytest.mark.parametrize(("parse", "log"), [(recordlog.whole_records, RECORDS), (linelog.whole_lines, LINES)])
def test_a_log_says_what_was_written(parse: enginelog.Parse, log: bytes) -> None:
    assert parse(log) == (SAID, len(log))
    said: list[tuple[int, bytes]] = []
    rest = b""
    for byte in log:
        rest += bytes([byte])
        pairs, size = parse(rest)
        said += pairs
        rest = rest[size:]
    assert (said, rest) == (SAID, b"")


def test_what_a_crash_has_torn_of_a_log_is_shown() -> None:
    assert linelog.whole_lines(b"\0\0\0\n2026 stdout F on\n")[0] == [(2, b"\0\0\0\n"), (1, b"on\n")]


def test_a_log_that_has_been_read_is_freed_and_can_be_read_on(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    content = [random.Random(number).randbytes(5000).replace(b"\n", b"") for number in range(400)]
    log.write_bytes(b"".join(b"2026 stdout F " + each + b"\n" for each in content))
    written = b"".join(each + b"\n" for each in content)

    def read(skip: int) -> bytes:
        pairs = enginelog.follow(str(log), linelog.whole_lines, (skip, 0), lambda: True, keep=300_000)
        return b"".join(data for _, data in pairs)

    size, blocks = log.stat().st_size, log.stat().st_blocks
    assert read(0) == written
    assert log.stat().st_size == size
    assert log.stat().st_blocks < blocks
    for skip in (len(written) - 200_000, len(written)):
        assert read(skip) == written[skip:]
    with pytest.raises(EngineFailed, match="not there any more"):
        read(0)


# -- progress


def test_the_share_of_a_pull_counts_every_layer_and_never_falls() -> None:
    layers = Layers()

    def hear(status: str, layer: str | None = None, **detail: int) -> float | None:
        news = layers.hear({"status": status, "id": layer, "progressDetail": detail})
        assert news is not None
        return news[1]

    assert hear("Pulling from busybox", "1") is None
    assert hear("Pulling fs layer", "a") == 0
    assert hear("Downloading", "a", current=50, total=100) == pytest.approx(0.4)
    assert hear("Already exists", "b") == pytest.approx(0.7)
    assert hear("Pulling fs layer", "c") == pytest.approx(0.7)
    assert hear("Extracting", "a", current=50, total=100) == pytest.approx(0.7)
    assert hear("Pull complete", "c") == pytest.approx((0.9 + 1 + 1) / 3)
    assert hear("Pull complete", "a") == 1
    assert hear("Digest: sha256:1234") == 1
    assert layers.hear({"progressDetail": {}}) is None


# -- limits


def test_what_the_host_cannot_limit_is_said() -> None:
    limits = TaskLimits(memory_mb=1, swap_mb=2, cpus=1.0, pids=3, io_weight=10, open_files=4)
    notes = {note.limit: note for note in creation.notes(limits, "docker", {}, {"BlkioWeight": 0})}
    assert {limit for limit, note in notes.items() if note.by is None} == {
        "memoryMb",
        "swapMb",
        "cpus",
        "pids",
        "ioWeight",
    }
    assert all(note.note for note in notes.values() if note.by is None)
    info = {"MemoryLimit": True, "SwapLimit": True, "CpuCfsQuota": True, "PidsLimit": True}
    notes = {note.limit: note for note in creation.notes(limits, "docker", info, {"BlkioWeight": 10})}
    assert {note.by for note in notes.values()} == {"docker"}


def test_swap_cannot_be_limited_without_memory() -> None:
    info = {"MemoryLimit": True, "SwapLimit": True}
    (note,) = creation.notes(TaskLimits(swap_mb=1), "docker", info, None)
    assert note.by is None
    assert "memoryMb" in (note.note or "")


# -- who may not read the engine's files


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    engine = open_engine(server.name, server.sockets)
    yield engine
    engine.close()


@pytest.fixture
def container(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """One that writes awkward output, waits for a file, and writes more."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    script = (
        "head -c 20000 /dev/zero | tr '\\0' x; echo; printf 'a\\000\\377b'; echo oops >&2; touch /shared/said;"
        "until [ -e /shared/go ]; do sleep 0.1; done; echo; printf end"
    )
    order = Order(
        name=name,
        image=BUSYBOX_IMAGE,
        command=["sh", "-c", script],
        mounts=[mount(tmp_path)],
        network="host",
        labels={"test": name},
    )
    container = engine.create(order)
    engine.start(container)
    yield container
    engine.remove(container)


def mount(path: Path) -> Any:
    from task_runner.model.walls import Mount

    return Mount(source=str(path), target="/shared")


STRANGER = """
import os, sys
from task_runner.engines.find import open_engine
name, socket, container, skip = sys.argv[1:]
engine = open_engine(name, {name: socket})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for stream, data in engine.output(container, (int(skip), 0)):
    os.write(stream, data)
"""


def test_output_comes_from_the_api_where_the_log_is_not_to_be_read(
    server: Server, engine: Engine, container: str, tmp_path: Path
) -> None:
    wait_for((tmp_path / "said").exists, "the container has written")
    command = [sys.executable, "-c", STRANGER, server.name, str(server.socket), container, "19990"]
    server.socket.chmod(0o666)
    server.directory.chmod(0o711)
    reader = subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what is read ahead here would be missing from communicate
    )
    assert reader.stdout is not None
    assert reader.stdout.read(1) == b"x"
    (tmp_path / "go").touch()
    out, err = reader.communicate(timeout=PATIENCE)
    assert (out, err) == (b"x" * 9 + b"\na\0\xffb\nend", b"oops\n")


# -- finding engines


def test_an_engine_that_does_not_answer_is_refused_with_what_helps(tmp_path: Path) -> None:
    missing = str(tmp_path / "api.sock")
    for name, package in (("podman", "podman"), ("docker", "docker.io"), ("cri", "containerd")):
        with pytest.raises(EngineMissing, match=package) as caught:
            open_engine(name, {name: missing})
        assert missing in str(caught.value)
        assert "systemctl enable --now" in str(caught.value)
    (problem,) = available({"podman": missing})
    assert problem.problem is not None and "podman system service" in problem.problem


def test_an_engine_that_is_not_configured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="docker"):
        open_engine("docker", {"podman": str(tmp_path / "api.sock")})


def test_without_any_engine_all_that_can_be_installed_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("CONTAINER_HOST", "DOCKER_HOST", "CONTAINER_RUNTIME_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if available({}):
        pytest.skip("there is an engine in one of the usual places")
    with pytest.raises(EngineMissing, match=r"podman.*docker\.io.*containerd"):
        open_engine(None, {})


@PODMAN
def test_an_engine_is_found_in_the_places_that_the_environment_names(
    podman_server: PodmanServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINER_HOST", f"unix://{podman_server.socket}")
    found = [each for each in available({}) if each.name == "podman"]
    assert [(each.socket, each.problem) for each in found] == [(str(podman_server.socket), None)]
    engine = open_engine("podman", {})
    assert engine.describe().startswith("Podman ")
    engine.close()


@PODMAN
def test_a_missing_client_library_is_named(podman_server: PodmanServer) -> None:
    """In a Python that has this package and nothing else."""
    script = (
        "from task_runner.engines.find import available, open_engine; import sys\n"
        "sockets = {'podman': sys.argv[1]}\n"
        "print(available(sockets)[0].problem)\n"
        "try: open_engine('podman', sockets)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"]
    done = subprocess.run([*command, str(podman_server.socket)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "pip install 'task-runner[docker]'" in first
    assert second == f"EngineMissing {first}"


def test_looking_for_engines_loads_no_client_library() -> None:
    script = "import sys; from task_runner.engines import find; find.available({}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"docker", "requests", "grpc", "cri_api"} & set(done.stdout.split())


def test_what_answers_like_no_engine_is_not_taken_for_one(tmp_path: Path) -> None:
    import socket
    import threading

    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            for _ in range(2):  # the look whether something answers, and the engine's first question
                connection, _address = listener.accept()
                with connection:
                    connection.settimeout(PATIENCE)
                    if connection.recv(4096):
                        connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EngineFailed, match=path):
            open_engine("docker", {"docker": path})
        thread.join(PATIENCE)


def answering(answer: Callable[[str], tuple[int, bytes]], **headers: str) -> type[BaseHTTPRequestHandler]:
    """An engine that says of a path what this says: the status and the body."""

    class Engine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "a socket"

    return Engine


WORDS = [
    (500, b'{"message": "database is locked"}', "database is locked"),
    (500, b"proxy says no\n", "proxy says no"),
    (500, b"", "Internal Server Error"),
    (200, b"<html>", "podman does not answer at /"),
    (200, b"{}{", "podman does not answer at /"),
    (200, b'{"message": "not a list"}', "podman does not answer at /"),
]


def test_what_is_no_list_of_containers_is_told_and_never_taken_for_an_empty_one(tmp_path: Path) -> None:
    """Without the client library; a real engine says none of this when asked to."""
    answers = [(status, body) for status, body, _ in WORDS]

    strange = answering(lambda path: (200, b"OK") if path == "/_ping" else answers.pop(0))
    path = str(tmp_path / "api.sock")
    with pytest.raises(EngineFailed, match=path):
        listing.find("podman", path, {})
    with socketserver.UnixStreamServer(path, strange) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for _, _, words in WORDS:
                with pytest.raises(EngineFailed, match=words):
                    listing.find("podman", path, {"one": "1"})
        finally:
            server.shutdown()
            thread.join()


def test_an_engine_is_asked_for_its_version_until_it_has_told_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("task_runner.service.containers._PATIENCE", PATIENCE)
    asked = []
    answers = [(500, b"{}"), (200, b'{"Version": "4.3.1"}'), (200, b'{"Version": "4.3.2"}')]

    def answer(path: str) -> tuple[int, bytes]:
        asked.append(path)
        return answers[len(asked) - 1]

    path = str(tmp_path / "api.sock")
    containers = Containers(Settings(state_dir=str(tmp_path), engines={"podman": path}))
    with socketserver.ThreadingUnixStreamServer(path, answering(answer)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            told = [containers.engines()[0]["version"] for _ in range(4)]
        finally:
            server.shutdown()
    assert told == [None, "4.3.1", "4.3.1", "4.3.1"]
    assert asked == ["/version"] * 2


def test_a_container_that_ends_while_podman_looks_at_it_is_looked_at_again(tmp_path: Path) -> None:
    """What Podman 4.3 answered in that moment, over its own way; no test can make a process end in the middle of it."""
    ended = {"State": {"Status": "exited", "ExitCode": 3}}
    vanished = b'{"message": "read /proc/13935/cgroup: no such process"}'
    answers = [(500, vanished), (500, vanished), (200, json.dumps(ended).encode())]
    podman = answering(lambda path: (200, b"{}") if path == "/_ping" else answers.pop(0), Api_Version="1.41")
    path = str(tmp_path / "api.sock")
    with socketserver.UnixStreamServer(path, podman) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            engine = open_engine(None, {"podman": path})
            seen = engine.look("some-container")
            engine.close()
        finally:
            server.shutdown()
    assert (seen.state, seen.exit_code, answers) == ("exited", 3, [])


def test_containers_of_which_one_ends_while_podman_lists_them_are_listed_again(tmp_path: Path) -> None:
    vanished = b'{"message": "read /proc/13935/cgroup: no such process"}'
    answers = [(500, vanished), (500, vanished), (200, b'[{"Id": "abc", "Names": ["/name"], "Labels": {"one": "1"}}]')]
    podman = answering(lambda path: (200, b"OK") if path == "/_ping" else answers.pop(0), Api_Version="1.41")
    path = str(tmp_path / "api.sock")
    with socketserver.UnixStreamServer(path, podman) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = listing.find("podman", path, {"one": "1"})
        finally:
            server.shutdown()
    assert ([(each.id, each.name) for each in found], answers) == ([("abc", "name")], [])


@DOCKER
def test_what_docker_is_configured_with_at_home_is_not_used(
    docker_server: DockerServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither proxies, which it would put into every container, nor a program that knows passwords."""
    helper = tmp_path / "docker-credential-spy"
    helper.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(
        '{"proxies": {"default": {"httpProxy": "http://proxy.example"}}, "credsStore": "spy"}'
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    engine = open_engine("docker", docker_server.sockets)
    name = f"test-{uuid.uuid4().hex[:12]}"
    order = Order(name=name, image=BUSYBOX_IMAGE, command=["env"], network="none")
    container = engine.create(order)
    try:
        engine.start(container)
        said = b"".join(data for _, data in engine.output(container, (0, 0)))
        assert b"HOSTNAME" in said and b"proxy" not in said.lower()
        with pytest.raises(EngineFailed):
            engine.pull("127.0.0.1:1/nothing:1", None, lambda _text, _share: None)
        assert not (tmp_path / "called").exists()
    finally:
        engine.remove(container)
        engine.close()

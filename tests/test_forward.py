"""Forwarding of output: every line arrives once and in order, and nothing of the task waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Daemon, Run, Start, finish, wait_for
from logservers import Authority, Journald, Make, Message, Rsyslog, Tcp, Udp

from task_runner.cli import forward
from task_runner.lib import gaps, process
from task_runner.lib.forwarding.form import LONGEST_DATAGRAM, LONGEST_FRAME, SyslogForm, tag
from task_runner.lib.forwarding.lines import Line, Log, Reader
from task_runner.lib.forwarding.order import Origin, missed
from task_runner.model.walls import Logging, Syslog

SECRET = "hunter22"

#: for the certificates of the daemon that most tests share
pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Daemon]:
    """A daemon that trusts our authority, and knows a secret."""
    daemon = Daemon(tmp_path_factory.mktemp("shared") / "state", forward_ca=authority.file)
    try:
        yield daemon.start(TASK_RUNNER_SECRET_PASSWORD=SECRET)
        assert b"Traceback" not in daemon.log.read_bytes()
    finally:
        daemon.close()


def note_of(daemon: Daemon, task_id: str) -> Path:
    return Path(daemon.state.tasks.attempt(task_id, 1).forward)


def unforwarded(daemon: Daemon, task_id: str) -> int:
    """When it is known."""
    daemon.wait(task_id)
    wait_for(lambda: daemon.task(task_id)["unforwardedLines"] is not None, "it is known what was not forwarded")
    return int(daemon.task(task_id)["unforwardedLines"])


def arrived(target: Udp | Tcp, count: int) -> None:
    """What has been forwarded is on its way to the thread that takes it here."""
    wait_for(lambda: len(target.raw) >= count, "all lines have come")


def forwarders(daemon: Daemon, task_id: str) -> list[int]:
    """Processes that hold the directory of a task open: nobody else does."""
    directory = daemon.state.tasks.attempt(task_id, 1).path
    return [each.pid for each in process.everyone() if each.alive and directory in _open_files(each.pid)]


def _open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def go(daemon: Daemon, task_id: str, name: str = "go") -> None:
    """Let a command go on that waits for a file of this name, when it has begun."""
    work = daemon.work(task_id)
    wait_for(work.is_dir, "the task has a working directory")
    (work / name).touch()


#: the end of a command that is over when `go` is there: a forwarder has but a few seconds after that
HOLD = "while [ ! -e go ]; do sleep 0.05; done"


def held(daemon: Daemon, script: str, came: Callable[[], Any], **terms: Any) -> str:
    """Submit a shell script that holds at its end, and let it end when its lines have come."""
    task_id = daemon.submit("sh", "-c", f"{script}; {HOLD}", **terms)
    wait_for(came, "its lines have come")
    go(daemon, task_id)
    return task_id


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


# -- what arrives


@pytest.fixture(params=["udp", "tcp", "tls"])
def target(request: pytest.FixtureRequest, receiver: Make, authority: Authority) -> Udp | Tcp:
    """A receiver of each kind."""
    if request.param == "udp":
        return receiver(Udp)
    return receiver(Tcp, authority.server("IP:127.0.0.1") if request.param == "tls" else None)


def test_every_line_arrives_once_and_in_order(shared: Daemon, target: Udp | Tcp):
    count = 300 if target.transport == "udp" else 10_000  # a datagram may be lost, by its nature, where there are many
    task_id = held(shared, f"seq 1 {count}", lambda: len(target.raw) >= count, logging=target.logging())
    assert unforwarded(shared, task_id) == 0
    assert target.texts == numbers(1, count)


def test_a_message_says_whose_line_it_is(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    logging = {"tagPrefix": "lab/", "tagSuffix": ".task"} | target.logging()
    logging["syslog"]["facility"] = 16
    entity = 'a "quoted" \\ [name] é'
    terms = {"name": "nightly build", "entity": entity, "outputMode": "separate", "logging": logging}
    task_id = held(shared, "echo out; echo err >&2", lambda: len(target.raw) >= 2, **terms)
    assert unforwarded(shared, task_id) == 0
    messages: dict[bytes, Message] = {message.text: message for message in target.messages}
    out, err = messages[b"out"], messages[b"err"]
    assert (out.priority, err.priority) == (16 * 8 + 6, 16 * 8 + 3)  # info, err
    assert {out.app, err.app} == {"lab/nightly_build.task"}
    assert (out.process, out.id, err.id) == (task_id, "stdout", "stderr")
    assert out.sd == "taskRunner@32473"
    about = {"taskId": task_id, "attempt": "1", "action": "0", "entity": entity}
    assert out.data == {**about, "stream": "stdout"}
    assert err.data == {**about, "stream": "stderr"}
    task = shared.task(task_id)
    assert task["startedAt"] <= out.time


def test_a_line_is_of_the_action_that_began_it(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    actions = [{"machine": "process", "parameters": {"shell": line}} for line in ("echo a; echo b", "printf c", f"echo d; echo e; {HOLD}")]
    task_id = shared.submit(actions=actions[:2], cleanup=actions[2:], logging=target.logging())
    arrived(target, 4)
    go(shared, task_id)
    assert unforwarded(shared, task_id) == 0
    assert [(each.text, each.data["action"]) for each in target.messages] == [(b"a", "0"), (b"b", "0"), (b"cd", "1"), (b"e", "2")]


def test_the_bytes_of_a_line_are_those_of_the_command(shared: Daemon, receiver: Make):
    """UTF-8 is marked as such, where it is not plain ASCII; what is no UTF-8, and control characters, go as they are."""
    target = receiver(Tcp)
    script = r"printf 'plain\n\nnaïve\n\377\376\n\033[31mred\033[0m\ttab\r\nnul\000here\nno line feed'"
    assert unforwarded(shared, held(shared, script, lambda: len(target.raw) >= 6, logging=target.logging())) == 0
    arrived(target, 7)
    assert target.texts == [
        b"plain", b"", b"\xef\xbb\xbf" + "naïve".encode(), b"\xff\xfe", b"\x1b[31mred\x1b[0m\ttab\r", b"nul\0here", b"no line feed",
    ]  # fmt: skip


def test_a_line_that_is_too_long_comes_in_parts(shared: Daemon, receiver: Make):
    stream, datagram = receiver(Tcp), receiver(Udp)
    text = "é" * 20_000
    for target, longest in ((stream, LONGEST_FRAME), (datagram, LONGEST_DATAGRAM)):
        script = f"printf 'before\\n{text}\\nafter\\n'"
        task_id = held(shared, script, lambda target=target: target.texts[-1:] == [b"after"], logging=target.logging())
        assert unforwarded(shared, task_id) == 0
        before, *parts, after = target.messages
        assert "part" not in before.data and "part" not in after.data
        assert [part.data["part"] for part in parts] == [str(number) for number in range(1, len(parts) + 1)]
        assert max(len(raw) for raw in target.raw) <= longest
        assert "".join(part.text.decode("utf-8-sig") for part in parts) == text


def test_masked_secrets_are_masked_and_stamps_are_there(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    terms = {"secrets": [{"name": "password", "env": "PASSWORD"}], "maskSecrets": True, "outputTimestamps": True}
    task_id = held(shared, 'echo "it is $PASSWORD"', lambda: target.raw, **terms, logging=target.logging())
    assert unforwarded(shared, task_id) == 0
    (text,) = target.texts
    assert text.endswith(b"Z it is ********")
    assert text + b"\n" == shared.output(task_id)


def test_each_attempt_is_forwarded(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    retry = {"count": 1, "delaySeconds": 0.01}
    script = "echo try; while [ ! -e go$TASK_RUNNER_ATTEMPT ]; do sleep 0.05; done; exit 3"
    task_id = shared.submit("sh", "-c", script, retry=retry, logging=target.logging())
    for attempt in (1, 2):
        wait_for(lambda count=attempt: len(target.raw) == count, "the line of this attempt has come")
        go(shared, task_id, f"go{attempt}")
    assert unforwarded(shared, task_id) == 0
    assert sorted(each.data["attempt"] for each in target.messages) == ["1", "2"]


def test_a_line_comes_while_the_command_runs_and_the_task_does_not_know_of_the_forwarder(shared: Daemon, receiver: Make):
    target = receiver(Udp)
    task_id = shared.submit("sh", "-c", "echo begun; exec sleep 1000", logging=target.logging())
    wait_for(lambda: target.texts == [b"begun"], "the line has come")
    assert shared.task(task_id)["unforwardedLines"] is None
    (forwarder,) = forwarders(shared, task_id)
    runner = shared.runner_pid(task_id)
    assert forwarder not in [each.pid for each in process.descendants(runner)]
    shared.wait_state(task_id, "running")
    assert shared.post(f"/v1/tasks/{task_id}/pause").status_code == 200
    shared.wait_state(task_id, "paused")
    seen = process.look(forwarder)
    assert seen is not None and seen.state not in "Tt"
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert [each["pid"] for each in task["receipt"]["signalled"]] == [task["actions"][0]["process"]["pid"]]
    assert unforwarded(shared, task_id) == 0
    wait_for(lambda: not forwarders(shared, task_id), "the forwarder has ended")


# -- trouble


def test_a_server_that_dies_and_comes_back_gets_every_line_once(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    script = "seq 1 100; while [ ! -e one ]; do sleep 0.1; done; seq 101 200; while [ ! -e two ]; do sleep 0.1; done; seq 201 300"
    task_id = shared.submit("sh", "-c", script, logging=target.logging())
    wait_for(lambda: len(target.raw) == 100, "the first lines have come")
    target.die()
    go(shared, task_id, "one")
    wait_for(lambda: note_of(shared, task_id).exists(), "the forwarder has seen that nobody is there")
    assert json.loads(note_of(shared, task_id).read_text())["targets"][0]["error"] in ("Connection refused", "closed by the server", "Connection reset by peer")
    target.open()
    wait_for(lambda: len(target.raw) == 200, "what was written meanwhile has come")
    go(shared, task_id, "two")
    assert unforwarded(shared, task_id) == 0
    assert target.texts == numbers(1, 300)


@pytest.mark.parametrize("kind", [Udp, Tcp])
def test_a_server_that_begins_after_the_task_gets_every_line(shared: Daemon, receiver: Make, kind: type):
    target = receiver(kind)
    target.close()
    task_id = shared.submit("sh", "-c", "seq 1 50; while [ ! -e go ]; do sleep 0.1; done", logging=target.logging())
    wait_for(lambda: note_of(shared, task_id).exists(), "the forwarder has seen that nobody is there")
    target.open()
    arrived(target, 50)
    go(shared, task_id)
    assert unforwarded(shared, task_id) == 0
    assert target.texts == numbers(1, 50)


@dataclass
class Stuck:
    """A task whose lines do not get through."""

    id: str
    target: Udp | Tcp
    #: there is no way that a line could get through
    hopeless: bool = True


@pytest.fixture(scope="module")
def stuck(shared: Daemon, authority: Authority) -> Iterator[dict[str, Stuck]]:
    """One task for each kind of trouble, all at once: each forwarder takes its time to give up."""
    targets: dict[str, Udp | Tcp] = {
        "never reads": Tcp(reads=False),
        "dead tcp": Tcp(),
        "dead udp": Udp(),
        "dies": Tcp(),
        "unknown authority": Tcp(_stranger(authority)),
        "other name": Tcp(authority.server("DNS:elsewhere.example")),
    }
    targets["dead tcp"].close()
    targets["dead udp"].close()
    script = "seq 1 100; while [ ! -e go ]; do sleep 0.1; done; seq 101 50000"
    found = {name: Stuck(shared.submit("sh", "-c", script, logging=target.logging()), target) for name, target in targets.items()}
    dying = found["dies"].target
    wait_for(lambda: len(dying.raw) == 100, "the first lines have come")
    dying.close()
    for each in found.values():
        go(shared, each.id)
    yield found
    for target in targets.values():
        target.close()


def _stranger(authority: Authority) -> Any:
    """A server whose certificate is by an authority of the same name that nobody knows."""
    directory = authority.directory / "stranger"
    directory.mkdir(exist_ok=True)
    new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=authority"]
    command = ["openssl", "req", *new, "-keyout", directory / "ca.key", "-out", directory / "ca.pem"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return Authority(directory).server("IP:127.0.0.1")


TROUBLES = ["never reads", "dead tcp", "dead udp", "dies", "unknown authority", "other name"]


@pytest.mark.parametrize("name", TROUBLES)
def test_the_ending_is_told_before_the_forwarder_gives_up(shared: Daemon, stuck: dict[str, Stuck], name: str):
    task = shared.wait(stuck[name].id)
    assert (task["outcome"], task["error"]) == ("succeeded", None)
    unforwarded(shared, task["taskId"])
    told = Path(shared.state.tasks.attempt(task["taskId"], 1).status).stat().st_mtime
    assert told < note_of(shared, task["taskId"]).stat().st_mtime
    assert shared.output(task["taskId"]).split() == numbers(1, 50_000)


@pytest.mark.parametrize("name", TROUBLES)
def test_what_did_not_get_through_is_counted(shared: Daemon, stuck: dict[str, Stuck], name: str):
    trouble = stuck[name]
    count = unforwarded(shared, trouble.id)
    if isinstance(trouble.target, Tcp) and name == "never reads":
        (connection,) = trouble.target.connections
        trouble.target.read(connection)  # what its machine had taken for it
    assert count == 50_000 - len(trouble.target.raw)
    assert trouble.target.texts == numbers(1, len(trouble.target.raw))
    if name not in ("never reads", "dies"):
        assert count == 50_000


@pytest.mark.parametrize(("name", "reason"), [("unknown authority", "certificate"), ("other name", "certificate"), ("dead tcp", "refused")])
def test_the_note_says_why(shared: Daemon, stuck: dict[str, Stuck], name: str, reason: str):
    unforwarded(shared, stuck[name].id)
    (target,) = json.loads(note_of(shared, stuck[name].id).read_text())["targets"]
    assert reason in target["error"]


def test_no_forwarder_outlives_a_killed_runner_for_long(shared: Daemon, receiver: Make):
    target = receiver(Tcp, reads=False)
    task_id = shared.submit("sh", "-c", "seq 1 50000; exec sleep 1000", logging=target.logging())
    wait_for(lambda: target.connections and forwarders(shared, task_id), "lines are on their way")
    os.kill(shared.runner_pid(task_id), signal.SIGKILL)
    assert shared.wait(task_id)["state"] == "lost"
    assert not shared.alive(task_id)
    wait_for(lambda: not forwarders(shared, task_id), "the forwarder has ended")


def test_a_killed_forwarder_breaks_nothing_and_what_it_did_is_not_known(shared: Daemon, receiver: Make):
    target = receiver(Tcp)
    task_id = shared.submit("sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.1; done; echo two", logging=target.logging())
    wait_for(lambda: target.texts == [b"one"], "the first line has come")
    for pid in forwarders(shared, task_id):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not forwarders(shared, task_id), "it is gone")
    go(shared, task_id)
    task = shared.wait(task_id)
    assert task["outcome"] == "succeeded"
    assert task["unforwardedLines"] is None
    assert shared.output(task_id) == b"one\ntwo\n"


def test_a_task_that_forwards_nothing_has_no_forwarder_and_no_count(shared: Daemon):
    task_id = shared.submit("sh", "-c", "echo one; exec sleep 1000")
    wait_for(lambda: shared.output(task_id) == b"one\n", "it runs")
    assert not forwarders(shared, task_id)
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert task["unforwardedLines"] is None
    assert not note_of(shared, task_id).exists()


# -- a forwarder alone

FORWARD = """
import sys
from task_runner.lib.forwarding import forwarder
from task_runner.lib.forwarding.forwarder import Forwarder
from task_runner.lib.forwarding.order import Order, Origin
from task_runner.model.walls import Logging, Syslog, Transport
forwarder.LAST_SECONDS = 60.0
directory, port, control = sys.argv[1:]
origin = Origin(task_id="t", attempt=1, name=None, entity=None, batch=None, host="h")
logging = Logging(syslog=Syslog(host="127.0.0.1", port=int(port), transport=Transport.TCP))
files = [("output", directory + "/output.log")]
order = Order(logging=logging, origin=origin, files=files, limit=None, authorities=None, directory=directory, note="forward.json")
Forwarder(order, int(control)).run()
"""


class Alone:
    """A forwarder of the output.log in a directory, and what its runner would do."""

    def __init__(self, directory: Path, port: int, prefix: tuple[str, ...] = ()) -> None:
        self._directory = directory
        source, self._sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        command = [*prefix, sys.executable, "-c", FORWARD, str(directory), str(port), str(source)]
        self._process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=[source])
        os.close(source)
        os.write(self._sink, b"action 0 0\n")

    def write(self, data: bytes) -> None:
        with open(self._directory / "output.log", "ab") as log:
            log.write(data)

    def end(self) -> None:
        os.write(self._sink, b"end %d\n" % (self._directory / "output.log").stat().st_size)
        self.kill_runner()

    def kill_runner(self) -> None:
        os.close(self._sink)

    def wait(self) -> None:
        assert self._process.wait(PATIENCE) == 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[..., Alone]]:
    """A function that starts forwarders of one log, one after the other; all are ended."""
    (tmp_path / "output.log").touch()
    started: list[Alone] = []

    def start(target: Tcp, prefix: tuple[str, ...] = ()) -> Alone:
        started.append(Alone(tmp_path, target.port, prefix))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_the_next_runner_of_an_attempt_has_the_rest_forwarded(alone: Callable[..., Alone], receiver: Make, tmp_path: Path):
    target = receiver(Tcp)
    first = alone(target)
    first.write(b"one\ntwo\nth")
    wait_for(lambda: target.texts == [b"one", b"two"], "the first lines have come")
    first.kill_runner()
    second = alone(target)
    first.wait()
    second.write(b"ree\nfour")
    wait_for(lambda: target.texts == [b"one", b"two", b"three"], "the other one goes on")
    second.end()
    second.wait()
    wait_for(lambda: target.texts[3:] == [b"four"], "the last line has come")
    assert missed(str(tmp_path / "forward.json")) == 0


def test_what_had_not_got_through_when_the_task_was_over_does_so_after_that(alone: Callable[..., Alone], receiver: Make, tmp_path: Path):
    target = receiver(Tcp)
    target.close()
    forwarder = alone(target)
    forwarder.write(b"one\ntwo\n")
    forwarder.end()
    wait_for((tmp_path / "forward.json").exists, "it has seen that nobody is there")
    target.open()
    forwarder.wait()
    assert missed(str(tmp_path / "forward.json")) == 0
    arrived(target, 2)
    assert target.texts == [b"one", b"two"]


@pytest.mark.needs("root", "unshare")
def test_a_log_is_followed_where_the_kernel_has_no_watch_left(alone: Callable[..., Alone], receiver: Make):
    """In a user namespace that has none to give."""
    target = receiver(Tcp)
    none_left = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    forwarder = alone(target, ("unshare", "--user", "--map-root-user", "sh", "-c", none_left, "sh"))
    for text in (b"one", b"two"):
        forwarder.write(text + b"\n")
        wait_for(lambda text=text: target.texts[-1:] == [text], "the line has come")
    forwarder.end()
    forwarder.wait()


# -- lines of a log that grows, and is bounded


@pytest.fixture
def growing(tmp_path: Path) -> Callable[..., tuple[Log, Callable[[bytes], None]]]:
    """A log, and a function that writes to it; both may be bounded."""

    def make(limit: int | None = None) -> tuple[Log, Callable[[bytes], None]]:
        path = tmp_path / "output.log"
        path.touch()

        def write(data: bytes) -> None:
            with open(path, "ab") as file:
                file.write(data)

        return Log(str(path), "output", limit), write

    return make


def free_middle(log: Log, path: Path, limit: int) -> tuple[int, int]:
    """As a runner does it."""
    fd = os.open(path, os.O_RDWR)
    try:
        seen = os.fstat(fd)
        start, end = gaps.middle(seen.st_size, limit, gaps.block_of(seen))
        gaps.punch(fd, start, end)
    finally:
        os.close(fd)
    return start, end


def drain(reader: Reader) -> list[Line]:
    return list(iter(reader.next, None))


def test_lines_in_a_hole_are_left_out_and_counted(growing: Any, tmp_path: Path):
    log, write = growing(65_536)
    lines = [b"%09d" % number for number in range(20_000)]
    write(b"\n".join(lines) + b"\n")
    log.grow(0.0)
    while log.count():
        pass
    start, end = free_middle(log, tmp_path / "output.log", 65_536)
    reader = Reader(log, 1000)
    log.end(os.fstat(log.fd).st_size)
    given = drain(reader)
    assert [line.text for line in given] == lines[: start // 10] + lines[end // 10 + 1 :]
    assert log.lines() == 20_000


def test_lines_that_were_gone_before_they_were_counted_are_an_unknown_number(growing: Any, tmp_path: Path):
    log, write = growing(65_536)
    write(b"123456789\n" * 20_000)
    log.grow(0.0)
    free_middle(log, tmp_path / "output.log", 65_536)
    while log.count():
        pass
    assert log.lines() is None


def test_a_line_is_given_when_it_is_whole_and_the_last_one_at_the_end(growing: Any):
    log, write = growing()
    reader = Reader(log, 1000)
    write(b"one\ntw")
    log.grow(0.0)
    assert [line.text for line in drain(reader)] == [b"one"]
    write(b"o")
    log.grow(0.0)
    assert drain(reader) == []
    log.end(os.fstat(log.fd).st_size)
    assert [(line.text, line.start, line.end) for line in drain(reader)] == [(b"two", 4, 7)]


def test_a_reader_can_go_back_to_any_line_or_part(growing: Any):
    log, write = growing()
    write(b"short\n" + b"x" * 2500 + b"\nlast\n")
    log.grow(0.0)
    reader = Reader(log, 1000)
    lines = drain(reader)
    assert [(len(line.text), line.part, line.last) for line in lines] == [
        (5, 1, True), (1000, 1, False), (1000, 2, False), (500, 3, True), (4, 1, True),
    ]  # fmt: skip
    for index, line in enumerate(lines):
        reader.seek(line.start, line.part)
        assert drain(reader) == lines[index:]


def test_a_line_has_the_time_at_which_it_came(growing: Any):
    log, write = growing()
    for number in range(2000):
        write(b"x\n")
        log.grow(float(number))
    times = [log.time(offset, otherwise=-1.0) for offset in range(2, 4002, 2)]
    assert times == sorted(times)
    assert times[-1] == 1999.0
    assert all(number <= time for number, time in enumerate(times))


@pytest.mark.parametrize(
    ("name", "prefix", "suffix", "expected"),
    [
        (None, "", "", "0123456789abcdef"),
        ("with blanks", "p-", "-s", "p-with_blanks-s"),
        ("é", "", "", "_"),
        ("n" * 200, "<" * 20, ">" * 20, "<" * 20 + "n" * 8 + ">" * 20),
    ],
)
def test_a_tag_is_of_characters_that_a_header_may_have(name: str | None, prefix: str, suffix: str, expected: str):
    origin = Origin(task_id="0123456789abcdef", attempt=1, name=name, entity=None, batch=None, host="h")
    assert tag(Logging(tag_prefix=prefix, tag_suffix=suffix), origin) == expected


def test_the_longest_head_leaves_room_for_text(growing: Any):
    log, write = growing()
    origin = Origin(task_id="0" * 16, attempt=10**6, name="n", entity='"' * 200, batch="b" * 16, host="h" * 300)
    logging = Logging(syslog=Syslog(host="h"))
    form = SyslogForm(logging, origin, LONGEST_DATAGRAM, counted=False)
    assert form.room > 480
    write("é".encode() * 5000)
    log.grow(0.0)
    log.begin(100, 0)
    for line in drain(Reader(log, form.room)):
        message = form.encode(line, time.time())
        assert len(message) <= LONGEST_DATAGRAM
        Message(message)


# -- the real ones


@pytest.mark.needs("rsyslogd")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_rsyslogd_understands_it(shared: Daemon, rsyslog: Rsyslog, transport: str):
    syslog = {"host": "127.0.0.1", "port": getattr(rsyslog, transport), "transport": transport, "facility": 17}
    waits = "while [ ! -e begin ]; do sleep 0.05; done"
    script = f"{waits}; echo out; echo naïve '[x]' >&2; seq 1 200; {HOLD}; printf end"
    terms = {"name": "build", "outputMode": "separate", "logging": {"syslog": syslog, "tagPrefix": "ci-"}}
    task_id = shared.submit("sh", "-c", script, **terms)
    wait_for(lambda: _listens(rsyslog, transport), "rsyslogd is up")
    go(shared, task_id, "begin")
    wait_for(lambda: len(rsyslog.messages) == 202, "rsyslogd has written all but the end")
    go(shared, task_id)
    assert unforwarded(shared, task_id) == 0
    wait_for(lambda: len(rsyslog.messages) == 203, "rsyslogd has written all")
    out = [each for each in rsyslog.messages if each["id"] == "stdout"]
    (err,) = (each for each in rsyslog.messages if each["id"] == "stderr")
    assert [each["text"].strip() for each in out] == ["out", *map(str, range(1, 201)), "end"]
    assert {(each["app"], each["process"], each["facility"], each["severity"]) for each in out} == {("ci-build", task_id, "local1", "info")}
    assert err["text"].strip().lstrip("\ufeff") == "naïve [x]"
    assert (err["severity"], err["data"]) == ("err", f'[taskRunner@32473 taskId="{task_id}" attempt="1" action="0" stream="stderr"]')


def _listens(rsyslog: Rsyslog, transport: str) -> bool:
    port, listening = (rsyslog.udp, "07") if transport == "udp" else (rsyslog.tcp, "0A")
    table = [line.split() for line in Path(f"/proc/net/{transport}").read_text().splitlines()[1:]]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == listening for fields in table)


@pytest.mark.needs("root", "unshare", "nsenter", "journalctl")
def test_the_journal_has_every_line_with_its_fields(make_daemon: Callable[..., Daemon], journald: Journald, receiver: Make):
    """In the same task to a syslog server as well."""
    wait_for(lambda: journald.ready, "journald is up")
    daemon = make_daemon().start(prefix=journald.inside)
    target = receiver(Tcp)
    script = "seq 1 500; head -c 400000 /dev/zero | tr '\\0' x; echo; printf '\\377 no UTF-8\\n'; echo last >&2"
    terms = {"name": "build", "outputMode": "separate", "entity": "gs-17", "logging": target.logging(journald=True, tagSuffix="!")}
    task_id = daemon.submit("sh", "-c", f"{script}; {HOLD}", **terms)
    entries = wait_for(lambda: len(found := journald.entries(task_id)) == 503 and found, "the journal has all")
    wait_for(lambda: {b"last", b"\xff no UTF-8"} <= set(target.texts), "the syslog server has all of it too")
    go(daemon, task_id)
    assert unforwarded(daemon, task_id) == 0
    out = [each for each in entries if each["TASK_RUNNER_STREAM"] == "stdout"]
    (err,) = (each for each in entries if each["TASK_RUNNER_STREAM"] == "stderr")
    assert [each["MESSAGE"] for each in out] == [*map(str, range(1, 501)), "x" * 400_000, list(b"\xff no UTF-8")]
    assert (err["MESSAGE"], err["PRIORITY"], out[0]["PRIORITY"]) == ("last", "3", "6")
    fields = ("SYSLOG_IDENTIFIER", "TASK_RUNNER_NAME", "TASK_RUNNER_ENTITY", "TASK_RUNNER_ATTEMPT", "TASK_RUNNER_ACTION")
    assert tuple(err[name] for name in fields) == ("build!", "build", "gs-17", "1", "0")


# -- refusals


def refusal(daemon: Daemon, logging: dict[str, Any]) -> list[dict[str, str]]:
    response = daemon.post("/v1/tasks", {"command": ["true"], "logging": logging})
    assert response.status_code == 400, response.text
    return list(response.json()["errors"])


def test_logging_without_a_target_is_refused(shared: Daemon):
    (error,) = refusal(shared, {"tagPrefix": "x"})
    assert error["field"] == "logging"
    assert "syslog" in error["message"] and "journald" in error["message"]


def test_a_host_that_is_not_allowed_is_refused(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(forward_allow='["logs.example", "*.logs.example"]').start()
    (error,) = refusal(daemon, {"syslog": {"host": "evil.example"}})
    assert error["field"] == "logging.syslog.host"
    assert "forward_allow" in error["message"]
    for host in ("logs.example", "A.logs.example."):
        assert daemon.post("/v1/tasks", {"command": ["true"], "logging": {"syslog": {"host": host}}}).status_code == 201


@pytest.mark.needs("root", "unshare")
def test_the_journal_is_refused_where_there_is_none(make_daemon: Callable[..., Daemon]):
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh")
    (error,) = refusal(make_daemon().start(prefix=hidden), {"journald": True})
    assert error["field"] == "logging.journald"
    assert "systemd-journald" in error["message"]


def test_tls_is_refused_where_the_file_of_authorities_is_not_there(make_daemon: Callable[..., Daemon], tmp_path: Path):
    daemon = make_daemon(forward_ca=tmp_path / "nowhere").start()
    (error,) = refusal(daemon, {"syslog": {"host": "localhost", "transport": "tls"}})
    assert error["field"] == "logging.syslog.transport"
    assert "forward_ca" in error["message"]


# -- on the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("journald", {"journald": True}),
        ("udp://logs.example", {"syslog": {"host": "logs.example", "port": 514, "transport": "udp"}}),
        ("tcp://10.0.0.1:601", {"syslog": {"host": "10.0.0.1", "port": 601, "transport": "tcp"}}),
        ("tls://[::1]", {"syslog": {"host": "::1", "port": 6514, "transport": "tls"}}),
    ],
)
def test_a_target_on_the_command_line(text: str, expected: dict[str, Any]):
    assert forward.target(text) == expected


@pytest.mark.parametrize("text", ["logs.example:514", "http://logs.example", "udp://", "tcp://a:b", "udp://a/b", "tls://user@a", "udp://a:70000"])
def test_what_is_no_target_is_refused(text: str):
    with pytest.raises(ValueError):
        forward.target(text)


def test_output_is_forwarded_as_the_command_line_says(task_runner: Run, start: Start, receiver: Make, tmp_path: Path):
    target = receiver(Tcp)
    script = f"echo hello; cd {tmp_path}; {HOLD}"
    running = start("run", "--forward", f"tcp://127.0.0.1:{target.port}", "--", "sh", "-c", script)
    wait_for(lambda: target.texts == [b"hello"], "the line has come")
    (tmp_path / "go").touch()
    assert finish(running) == (0, b"hello\n", "")
    both = ["--forward", "udp://a", "--forward", "tcp://b"]
    assert "two syslog servers" in task_runner("run", *both, "--", "true").stderr

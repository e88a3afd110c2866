"""Times in front of lines, stars in place of secrets: whatever the commands write, and however they write it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Daemon, wait_for
from hypothesis import given
from hypothesis import strategies as st

from task_runner.lib import outputpipe
from task_runner.lib.outputfilter import Masker, Sink, Stamper, patterns
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Action, OutputMode, Spec

STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "

# -- masking

#: few letters, so that secrets overlap, repeat and begin often
letters = st.sampled_from([b"a", b"b", b"\n", b"\xff"])
words = st.lists(letters, min_size=1, max_size=7).map(b"".join)


def masked_at_once(data: bytes, secrets: list[bytes]) -> bytes:
    """What masking means, said another way."""
    covered = {
        at + each
        for secret in secrets
        for at in range(len(data))
        if data[at : at + len(secret)] == secret
        for each in range(len(secret))
    }
    return bytes(ord("*") if at in covered else byte for at, byte in enumerate(data))


@given(secrets=st.lists(words, min_size=1, max_size=4), chunks=st.lists(st.lists(letters, max_size=12).map(b"".join)))
def test_masking_does_not_depend_on_how_the_output_is_cut(secrets: list[bytes], chunks: list[bytes]):
    masker = Masker(secrets)
    told, fed = b"", b""
    for chunk in chunks:
        fed += chunk
        told += masker.feed(chunk)
        held = fed[len(told) :]
        assert not held or any(secret.startswith(held) and secret != held for secret in secrets)
    told += masker.end()
    assert told == masked_at_once(fed, secrets)
    assert all(secret not in told for secret in secrets)


@given(st.data())
def test_a_secret_in_the_midst_of_anything_is_masked(data: st.DataObject):
    secret = data.draw(st.binary(min_size=4, max_size=40).filter(lambda each: b"*" not in each))
    before, after = data.draw(st.binary(max_size=60)), data.draw(st.binary(max_size=60))
    text = before + secret + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    masker = Masker([secret])
    told = b"".join(masker.feed(text[a:b]) for a, b in pairwise([0, *cuts, len(text)])) + masker.end()
    assert len(told) == len(text)
    assert secret not in told
    assert told[len(before) : len(before) + len(secret)] == b"*" * len(secret)


def test_nothing_is_held_back_that_is_no_beginning_of_a_secret():
    masker = Masker([b"hunter22"])
    assert masker.feed(b"a line\n") == b"a line\n"
    assert masker.feed(b"hunt") == b""
    assert masker.feed(b"ing\n") == b"hunting\n"
    assert masker.feed(b"hunter2") == b""
    assert masker.end() == b"hunter2"


def test_what_counts_as_a_secret():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n"
    assert set(patterns([key])) == {
        key.encode(),
        key.strip().encode(),
        b"-----BEGIN KEY-----",
        b"MIIEvQIBADANBg",
        b"-----END KEY-----",
    }
    assert patterns(["short\n", "abc", "", "\n", "müll", "\udcff\udcfe\udcfd\udcfc"]) == (
        b"short\n", b"m\xc3\xbcll", b"short", b"\xff\xfe\xfd\xfc",
    )  # fmt: skip


def test_many_secrets_that_begin_alike():
    secrets = [f"secret-{number:04}-{number * 7919:08}".encode() for number in range(300)]
    masker = Masker(secrets)
    data = b"\n".join(b"a line of a log, and no secret is in it: secret-" for _ in range(20_000))
    assert masker.feed(data) + masker.end() == data


# -- times


@given(
    chunks=st.lists(st.lists(st.sampled_from([b"x", b"yy", b"\n", b"\r\n"]), max_size=8).map(b"".join)),
    in_line=st.booleans(),
)
def test_every_line_has_one_time_and_nothing_else_is_changed(chunks: list[bytes], in_line: bool):
    stamper = Stamper(in_line=in_line)
    told = b"".join(stamper.feed(chunk, 1_000_000 + number) for number, chunk in enumerate(chunks))
    whole = b"".join(chunks)
    assert re.sub(rb"(?m)^" + STAMP, b"", told) == whole
    lines = told.splitlines(keepends=True)
    for line in lines[1:] if in_line else lines:
        assert re.match(STAMP, line)
    assert len(re.findall(STAMP, told)) == max(0, len(whole.splitlines()) - (in_line and whole != b""))


def test_a_line_has_the_time_of_its_first_byte():
    stamper = Stamper(in_line=False)
    assert stamper.feed(b"par", 0.25) == b"1970-01-01T00:00:00.250000Z par"
    assert stamper.feed(b"", 1.0) == b""
    assert stamper.feed(b"t\nnext\n", 2.0) == b"t\n1970-01-01T00:00:02.000000Z next\n"
    assert stamper.feed(b"last", 3.0) == b"1970-01-01T00:00:03.000000Z last"


# -- a file that takes no more


def test_what_the_disk_does_not_take_is_dropped_and_told(tmp_path: Path):
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        sink = Sink(fd)
        sink.write(b"one\n")
        sink.write(b"two\n")
        room = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(room, fd)
        os.close(room)
        sink.write(b"")
        sink.write(b"three\n")
        sink.write(b"four\n")
    finally:
        os.close(fd)
    assert (tmp_path / "log").read_text() == "\n[... 8 bytes lost: No space left on device ...]\nthree\nfour\n"


# -- the process

Logs = Callable[..., OutputLog]


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    return AttemptDirectory(str(tmp_path), 1)


@pytest.fixture
def logs(directory: AttemptDirectory) -> Iterator[Logs]:
    """Opens logs that mask, of specs with these fields."""
    opened: list[OutputLog] = []

    def make(**fields: Any) -> OutputLog:
        spec = Spec(actions=[Action(machine="process")], mask_secrets=True, **fields)
        log = OutputLog(directory, spec, {"one": "hunter22", "two": "correct\nhorse battery"})
        opened.append(log)
        log.open()
        return log

    yield make
    for log in opened:
        for pid in list(log.filters):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        log.close()


def run(log: OutputLog, *command: str) -> None:
    subprocess.run(command, stdout=log.stdout, stderr=log.stderr, check=True, timeout=PATIENCE)


def act(log: OutputLog, *command: str) -> None:
    """One action, as the runner does it."""
    log.begin()
    run(log, *command)
    log.end()
    assert log.filters == set()


def the_filter(log: OutputLog) -> int:
    (pid,) = log.filters
    return pid


def test_a_secret_that_is_written_in_two_halves_is_masked(logs: Logs, directory: AttemptDirectory):
    log = logs()
    act(log, "sh", "-c", "printf 'x hunt'; sleep 0.1; echo er22; printf 'correct\nhorse'; echo ' battery' >&2")
    data = Path(directory.output).read_bytes()
    assert data == b"x " + b"*" * 8 + b"\n" + b"*" * 21 + b"\n"
    assert log.seal()[0].bytes == len(data)


def test_the_order_of_both_streams_is_kept_and_every_byte_comes(logs: Logs, directory: AttemptDirectory):
    code = "import os\nfor n in range(3000): os.write(1 + n % 2, bytes([n % 256]) * (n % 200))"
    act(logs(), sys.executable, "-c", code)
    assert Path(directory.output).read_bytes() == b"".join(bytes([n % 256]) * (n % 200) for n in range(3000))


def test_streams_apart_are_masked_and_stamped_each(logs: Logs, directory: AttemptDirectory):
    log = logs(output_mode=OutputMode.SEPARATE, output_timestamps=True)
    act(log, "sh", "-c", "printf hunt; echo er22 >&2; echo er22")
    assert re.fullmatch(STAMP + rb"\*{8}\n", Path(directory.stdout).read_bytes())
    assert re.fullmatch(STAMP + rb"er22\n", Path(directory.stderr).read_bytes())
    assert log.size() == (len(Path(directory.stdout).read_bytes()), len(Path(directory.stderr).read_bytes()))


def test_a_line_that_two_actions_write_has_one_time(logs: Logs, directory: AttemptDirectory):
    log = logs(output_timestamps=True)
    act(log, "printf", "one ")
    act(log, "printf", "line\n")
    act(log, "printf", "another")
    assert re.fullmatch(STAMP + rb"one line\n" + STAMP + b"another", Path(directory.output).read_bytes())


def test_output_is_passed_on_at_once(logs: Logs, directory: AttemptDirectory):
    log = logs(output_timestamps=True)
    log.begin()
    with subprocess.Popen(["sh", "-c", "printf prompt; read line"], stdin=subprocess.PIPE, stdout=log.stdout) as command:
        wait_for(lambda: Path(directory.output).read_bytes().endswith(b" prompt"), "it is there before the command ends")
        command.communicate(b"\n", timeout=PATIENCE)
    log.end()


def test_the_filter_has_nothing_of_the_runner_but_its_pipe_and_file(logs: Logs, directory: AttemptDirectory):
    lock = os.open(f"{directory.path}/lock", os.O_CREAT | os.O_RDWR)
    log = logs()
    log.begin()
    pid = the_filter(log)
    wait_for(lambda: os.getsid(pid) == pid, "it has left")
    fds = f"/proc/{pid}/fd"
    found = wait_for(lambda: (lambda each: each if len(each) <= 5 else None)(os.listdir(fds)), "it has closed the rest")
    targets = [os.readlink(f"{fds}/{each}") for each in found if int(each) > 2]
    assert sorted(each.split(":")[0] for each in targets) == [directory.output, "pipe"]
    os.close(lock)
    log.end()


def test_a_filter_survives_the_signals_that_are_meant_for_the_task(logs: Logs, directory: AttemptDirectory):
    log = logs()
    log.begin()
    pid = the_filter(log)
    run(log, "echo", "one")
    wait_for(lambda: log.size()[0] == 4, "it works")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    run(log, "echo", "two")
    wait_for(lambda: log.size()[0] == 8, "it works on")
    assert the_filter(log) == pid
    log.end()
    assert Path(directory.output).read_bytes() == b"one\ntwo\n"


def test_a_filter_that_was_stopped_with_its_task_comes_to_its_end(logs: Logs, directory: AttemptDirectory):
    log = logs()
    log.begin()
    os.kill(the_filter(log), signal.SIGSTOP)
    run(log, "echo", "one")
    log.end()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_filter_that_is_killed_breaks_no_command(logs: Logs, directory: AttemptDirectory):
    log = logs()
    log.begin()
    script = "echo one; read line; echo hunter22; read line; echo three"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=log.stdout) as command:
        assert command.stdin is not None
        for number in range(2):
            wait_for(lambda n=number: Path(directory.output).read_bytes().count(b"\n") > n, "a line has come through")
            pid = the_filter(log)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            command.stdin.write(b"\n")
            command.stdin.flush()
            assert log.reaped(pid)
            assert not log.reaped(pid)
            assert the_filter(log) != pid
        command.communicate(timeout=PATIENCE)
        assert command.returncode == 0
    log.end()
    assert Path(directory.output).read_bytes() == b"one\n********\nthree\n"


def test_what_a_killed_filter_left_in_the_pipe_is_not_lost(logs: Logs, directory: AttemptDirectory):
    log = logs()
    log.begin()
    os.kill(the_filter(log), signal.SIGSTOP)
    run(log, "echo", "one")
    os.kill(the_filter(log), signal.SIGKILL)
    log.end()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_command_does_not_wait_for_ever_where_no_filter_lives(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outputpipe, "REVIVALS", 0)
    log = logs()
    log.begin()
    pid = the_filter(log)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert log.reaped(pid)
    writer = ["sh", "-c", "yes; exit 0"]
    subprocess.run(writer, stdout=log.stdout, stderr=subprocess.DEVNULL, check=True, timeout=PATIENCE)
    log.end()


def test_a_process_that_keeps_the_pipe_open_is_not_waited_for(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outputpipe, "STUCK", 0.2)
    log = logs()
    log.begin()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log.stdout) as survivor:
        run(log, "echo", "one")
        # the filter is given up a moment from now, and on a busy machine it may not even have begun
        wait_for(lambda: Path(directory.output).read_bytes() == b"one\n", "it has passed on what there was")
        log.end()
        assert log.filters == set()
        survivor.terminate()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_filter_that_stood_still_with_the_whole_machine_is_not_given_up(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    """The runner may be the first to go on: the time it would wait is over then, and the filter has done nothing."""
    go_on, held = signal.pidfd_send_signal, list[tuple[int, int]]()

    class Standstill:
        def __init__(self) -> None:
            self._looks, self._poll = 0, poll()

        def register(self, fd: int, events: int) -> None:
            self._poll.register(fd, events)

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            self._looks += 1
            if self._looks == 1:
                return []
            while held:
                go_on(*held.pop(0))
            return self._poll.poll(milliseconds)

    log = logs()
    log.begin()
    os.kill(the_filter(log), signal.SIGSTOP)
    run(log, "echo", "one")
    poll = select.poll
    monkeypatch.setattr(outputpipe.select, "poll", Standstill)
    monkeypatch.setattr(outputpipe.signal, "pidfd_send_signal", lambda fd, number: held.append((fd, number)))
    log.end()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_filter_may_be_at_its_end_before_it_is_waited_for(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    see_out = outputpipe.OutputPipe._await

    def late(pipe: outputpipe.OutputPipe, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the filter is gone, and the kernel has waited for it")
        see_out(pipe, pid)

    monkeypatch.setattr(outputpipe.OutputPipe, "_await", late)
    log = logs()
    log.begin()
    os.kill(the_filter(log), signal.SIGSTOP)
    run(log, "echo", "one")
    log.end()
    assert log.filters == set()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_filter_that_ends_as_soon_as_it_can_is_waited_for_by_the_kernel_too(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    """Else what it has used would count as used by the commands."""
    log = logs()
    log.begin()
    pid, sink, close = the_filter(log), log.stdout, os.close

    def slowly(fd: int) -> None:
        close(fd)
        if fd == sink:
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the filter is gone, and the kernel has waited for it")

    run(log, "echo", "one")
    with monkeypatch.context() as patched:
        patched.setattr(outputpipe.os, "close", slowly)
        log.end()
    assert Path(directory.output).read_bytes() == b"one\n"


def test_a_descriptor_or_process_too_few_leaves_nothing_behind(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    def fail(*_args: Any, **_more: Any) -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    log = logs()
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(outputpipe.outputfilter, "start", fail)
    with pytest.raises(OSError, match="unavailable"):
        log.begin()
    assert set(os.listdir("/proc/self/fd")) <= set(before)


ORPHANS = """
import os, subprocess, sys
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Spec
log = OutputLog(AttemptDirectory(sys.argv[1], 1), Spec(actions=[], mask_secrets=True), {"one": "hunter22"})
log.open(); log.begin()
command = subprocess.Popen(["sh", "-c", "echo one; read line; echo hunter22"], stdout=log.stdout)
print(*log.filters, flush=True)
command.wait()
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_filter_whose_runner_dies_goes_on_to_the_end(directory: AttemptDirectory, stopped: bool):
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS, directory.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        output = Path(directory.output)
        wait_for(lambda: output.read_bytes() == b"one\n", "it works")
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        runner.kill()
        runner.wait()
        runner.communicate(b"\n", timeout=PATIENCE)
    wait_for(lambda: output.read_bytes() == b"one\n********\n", "what came later is there, and masked")
    wait_for(lambda: not is_running(pid), "it has ended")


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# -- with a runner

SECRET = "hunter22 hunter22"
MASKED = "*" * len(SECRET)


@pytest.fixture
def keeper(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that knows a secret."""
    return make_daemon().start(TASK_RUNNER_SECRET_PASSWORD=SECRET)


def masked(daemon: Daemon, script: str, **more: Any) -> str:
    secrets = [{"name": "password", "env": "PASSWORD"}]
    return daemon.submit("sh", "-c", script, secrets=secrets, maskSecrets=True, **more)


def filters(daemon: Daemon, task_id: str) -> list[int]:
    """Processes that have the task's output open."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            names = [os.readlink(fd) for fd in (each / "fd").iterdir()] if each.name.isdigit() else []
        except OSError:
            continue
        if f"{daemon.state_dir}/tasks/{task_id}/output.log" in names:
            found.append(int(each.name))
    return [pid for pid in found if pid != daemon.runner_pid(task_id)]


UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"


def test_a_task_with_a_secret_shows_stars(keeper: Daemon):
    script = 'echo "it is $PASSWORD"; echo "$PASSWORD" | cut -c 1-5; printf %s "$PASSWORD" >&2; exit 3'
    task = keeper.wait(masked(keeper, script))
    assert (task["outcome"], task["exitCode"]) == ("failed", 3)
    assert keeper.output(task["taskId"]).decode() == f"it is {MASKED}\nhunte\n{MASKED}"
    assert task["output"]["bytes"] == task["actions"][0]["outputEnd"] == len(f"it is {MASKED}\nhunte\n{MASKED}")
    assert SECRET not in keeper.log.read_text() and SECRET not in str(task)


def test_the_stamps_of_a_task_with_several_actions(daemon: Daemon):
    actions = [{"machine": "process", "parameters": {"command": ["echo", text]}} for text in ("one", "two", "three")]
    task = daemon.wait(daemon.submit(actions=actions, outputTimestamps=True))
    assert task["outcome"] == "succeeded"
    assert re.fullmatch(STAMP + rb"one\n" + STAMP + rb"two\n" + STAMP + rb"three\n", daemon.output(task["taskId"]))
    ends = [action["outputEnd"] for action in task["actions"]]
    assert [action["outputStart"] for action in task["actions"]] == [0, *ends[:-1]]
    assert ends[-1] == task["output"]["bytes"]


def test_a_stop_reaches_the_commands_and_not_the_filter(keeper: Daemon):
    """What a command says on its way out is masked and kept, and the receipt names only what is of the task."""
    script = f"trap 'echo bye $PASSWORD; exit 0' TERM; echo ready; {UNTIL_GO}"
    task_id = masked(keeper, script)
    wait_for(lambda: keeper.output(task_id) == b"ready\n", "it runs")
    keeper.post(f"/v1/tasks/{task_id}/stop")
    task = keeper.wait(task_id)
    assert task["outcome"] == "cancelled"
    told = keeper.output(task_id).decode()  # the shell may have a word to say of its sleep
    assert told.startswith("ready\n") and told.endswith(f"bye {MASKED}\n")
    assert {each["command"].split()[0] for each in task["receipt"]["signalled"]} <= {"sh", "sleep"}
    assert task["receipt"]["survivors"] == []


def test_a_pause_and_a_new_daemon_in_the_midst_of_a_masked_task(keeper: Daemon):
    task_id = masked(keeper, f"echo one; {UNTIL_GO}; echo $PASSWORD")
    wait_for(lambda: keeper.output(task_id) == b"one\n", "it runs")
    keeper.wait_state(task_id, "running")
    assert keeper.post(f"/v1/tasks/{task_id}/pause").status_code == 200
    keeper.wait_state(task_id, "paused")
    keeper.restart()
    (keeper.state_dir / "tasks" / task_id / "work" / "go").touch()
    keeper.post(f"/v1/tasks/{task_id}/resume")
    assert keeper.wait(task_id)["outcome"] == "succeeded"
    assert keeper.output(task_id).decode() == f"one\n{MASKED}\n"


def test_a_filter_of_a_task_that_is_killed_is_replaced(keeper: Daemon):
    task_id = masked(keeper, f"echo one; {UNTIL_GO}; echo $PASSWORD")
    wait_for(lambda: keeper.output(task_id) == b"one\n", "it runs")
    (pid,) = filters(keeper, task_id)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: filters(keeper, task_id) not in ([], [pid]), "there is another")
    (keeper.state_dir / "tasks" / task_id / "work" / "go").touch()
    assert keeper.wait(task_id)["outcome"] == "succeeded"
    assert keeper.output(task_id).decode() == f"one\n{MASKED}\n"


def test_nothing_is_left_of_a_masked_task_whose_runner_was_killed(keeper: Daemon):
    task_id = masked(keeper, f"echo $PASSWORD; {UNTIL_GO}")
    wait_for(lambda: keeper.output(task_id).decode() == f"{MASKED}\n", "it runs")
    (pid,) = filters(keeper, task_id)
    os.kill(keeper.runner_pid(task_id), signal.SIGKILL)
    assert keeper.wait(task_id)["outcome"] == "lost"
    wait_for(lambda: not is_running(pid), "the filter has ended with the commands")
    assert keeper.output(task_id).decode() == f"{MASKED}\n"


def test_what_a_filter_uses_is_not_counted_as_the_commands(daemon: Daemon):
    """The command writes a little; the time in front of each of its lines is what makes it much."""
    task = daemon.wait(daemon.submit("sh", "-c", "yes '' | head -c 1000000", outputTimestamps=True))
    assert task["output"]["bytes"] == 29_000_000
    for usage in (task["usage"], task["actions"][0]["usage"]):
        assert usage["writtenBytes"] < 1_000_000
        assert usage["maxRssBytes"] is None

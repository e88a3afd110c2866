"""What a task's actions are given and what watches over them: grants, secrets, progress, silence, input, files."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attempts import Attempt, HandClock, attempt, outcomes, shell, suspend
from conftest import wait_for

from task_runner.errors import Conflict, StorageFull
from task_runner.lib import inputspool, lock, process, tree
from task_runner.lib.family import Family
from task_runner.lib.progress import parse
from task_runner.lib.silence import Signs, StallWatch, moved
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.lib.tasktime import TaskTime
from task_runner.machines import progress
from task_runner.machines.base import Context
from task_runner.model.state import Outcome, State
from task_runner.model.terms import StallPolicy

Start = Callable[..., Attempt]
__all__ = ["attempt"]

AWAIT = "for i in $(seq 5000); do [ -e {} ] && break; sleep 0.1; done"


def go(task: Attempt, name: str = "go") -> None:
    Path(task.directory.work, name).touch()


def pulse(task: Attempt) -> float:
    heartbeat = lock.probe(task.directory).heartbeat
    assert heartbeat is not None
    return heartbeat.monotonic


# -- the grant


def test_granted_processors_are_in_the_environment_the_claim_and_the_status(attempt: Start):
    task = attempt({"actions": [shell(f"echo $CUDA_VISIBLE_DEVICES; {AWAIT.format('go')}")]}, grant={"gpus": [0, 3]})
    task.said(b"0,3\n")
    assert lock.probe(task.directory).gpus == (0, 3)
    go(task)
    assert task.wait().gpus == [0, 3]
    assert lock.probe(task.directory).gpus == (0, 3)


def test_without_a_grant_nothing_is_said_of_processors(attempt: Start):
    task = attempt({"actions": [shell("echo ${CUDA_VISIBLE_DEVICES-unset}")]})
    assert task.wait().gpus == []
    assert task.output == b"unset\n"
    assert b"gpus" not in Path(task.directory.lock).read_bytes()


def test_granted_variables_reach_every_action_and_do_not_hide_whose_they_are(attempt: Start):
    grant = {"env": {"GREETING": "hello", process.MARK: "somebody else"}}
    echo = f"echo $GREETING ${process.MARK}"
    task = attempt({"actions": [shell(echo)], "cleanup": [shell(echo)]}, grant=grant)
    task.wait()
    assert task.output == f"hello {task.id}\n".encode() * 2


# -- secrets

SECRET = "s3cr3t \N{SNOWMAN}\nof two lines"
USES = [{"name": "db", "env": "DB", "fileEnv": "DB_FILE"}, {"name": "key.pem", "fileEnv": "KEY"}]


def test_secrets_come_by_environment_and_by_file_and_the_files_go(attempt: Start):
    script = 'printf %s "$DB" | cmp - "$DB_FILE" && cat "$KEY"; stat -c %a "$DB_FILE" "$KEY" "$(dirname "$KEY")"'
    spec = {"actions": [shell("exit 0"), shell(script)], "secrets": USES, "cleanup": [shell('cat "$KEY"')]}
    task = attempt(spec, grant={"secrets": {"db": SECRET, "key.pem": "k"}})
    assert task.wait().outcome is Outcome.SUCCEEDED
    assert task.output == b"k600\n600\n700\nk"
    assert not os.path.exists(task.directory.secrets)


def test_no_file_of_the_task_holds_a_secret_when_it_is_over(attempt: Start):
    task = attempt({"actions": [shell("exit 3")], "secrets": USES}, grant={"secrets": {"db": SECRET, "key.pem": SECRET}})
    task.wait()
    for path in Path(task.directory.task).rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), path


def test_a_secret_that_was_not_given_fails_the_start_and_is_named(attempt: Start):
    spec = {"actions": [shell("echo never")], "secrets": USES, "cleanup": [shell('echo "clean $DB"')]}
    task = attempt(spec, grant={"secrets": {"db": "known"}})
    status = task.wait()
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, None)
    assert status.error == "secrets: the server has given no key.pem"
    assert (task.output, outcomes(status)) == (b"clean known\n", [None, "succeeded"])
    assert not os.path.exists(task.directory.secrets)


def test_secrets_in_the_output_are_masked_where_that_is_asked_for(attempt: Start):
    spec = {"actions": [shell('echo "key: $DB"; sleep 0.1; echo "$DB" >&2')], "secrets": USES[:1], "maskSecrets": True}
    task = attempt(spec, grant={"secrets": {"db": "hunter2-and-more"}})
    status = task.wait()
    assert task.output == b"key: ****************\n****************\n"
    assert status.output.bytes == len(task.output)


# -- an output through a filter


def test_a_filter_is_no_process_of_the_task(attempt: Start):
    """It is not frozen, not stopped and not cleared away, and its end is not waited for as the task's."""
    actions = [shell(f"echo one; {AWAIT.format('go')}; echo two"), shell("echo three; sleep 600")]
    task = attempt({"actions": actions, "outputTimestamps": True})
    task.said(b"one\n")
    task.until(lambda status: status.state is State.RUNNING)
    task.pause()
    task.until(lambda status: status.state is State.PAUSED)
    filters = [each for each in process.descendants(task.runner.pid) if each.command == "output-filter"]
    assert [process.look(each.pid).state != "T" for each in filters] == [True]
    go(task)
    task.resume()
    task.said(b"three\n")
    task.stop()
    status = task.wait()
    assert (status.outcome, outcomes(status)) == (Outcome.CANCELLED, ["succeeded", "cancelled"])
    assert status.receipt is not None
    assert {note.command for note in (*status.receipt.signalled, *status.receipt.killed)} <= {"sh", "sleep"}
    first, second = status.actions
    assert (first.output_end, second.output_start, second.output_end) == (second.output_start, first.output_end, len(task.output))


def test_a_filter_ends_with_the_commands_when_the_runner_is_killed(attempt: Start):
    task = attempt({"actions": [shell("echo one; sleep 600")], "outputTimestamps": True})
    task.said(b"one\n")
    family = process.descendants(task.runner.pid)
    task.runner.kill()
    task.runner.wait()
    while tree.kill_marked(task.id):  # the shell may just be starting another
        pass
    wait_for(lambda: all((seen := process.look(each.pid)) is None or seen.start_time != each.start_time or not seen.alive
                         for each in family), "all are gone")


# -- progress


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"50", (50.0, None)),
        (b"50%", (50.0, None)),
        (b"0.5% just begun", (0.5, "just begun")),
        (b"100 done ", (100.0, "done")),
        (b"- still at it", (None, "still at it")),
        (b"12.5\tx", None),
        (b"-", None),
        (b"", None),
        (b"101", None),
        (b"-3", None),
        (b"nan", None),
        (b"inf", None),
        (b"1e1", None),
        (b"1_0", None),
        (b"fifty", None),
        (b"%", None),
        (b"5 \x1b[31mred\x00", (5.0, "[31mred")),
        ("7 \N{SNOWMAN}".encode(), (7.0, "\N{SNOWMAN}")),
        (b"7 \xff\xfe", (7.0, "\ufffd\ufffd")),
        (b"8 " + b"x" * 10_000, (8.0, "x" * 200)),
    ],
)
def test_a_line_of_progress(line: bytes, said):
    found = parse(line)
    assert found == (None if said is None else (said[0], found[1])) and (said is None or (found[1] or "").strip() == (said[1] or ""))


def test_progress_is_shown_while_it_runs_and_the_last_is_kept(attempt: Start):
    script = f"echo '10 begun' > $TASK_RUNNER_PROGRESS; {AWAIT.format('go')}; printf '80%%\\n- nearly\\n90 last' >> $TASK_RUNNER_PROGRESS"
    task = attempt({"actions": [shell(script)], "progress": True})
    seen = task.until(lambda status: status.progress).progress
    assert (seen.percent, seen.message) == (10.0, "begun")
    go(task)
    last = task.wait().progress
    assert (last.percent, last.message) == (90.0, "last")
    assert last.at > seen.at
    assert not os.path.exists(task.directory.progress)


def test_a_message_leaves_the_percent_as_it_was(attempt: Start):
    task = attempt({"actions": [shell("printf '40 x\\n- y\\nrubbish\\n' > $TASK_RUNNER_PROGRESS")], "progress": True})
    last = task.wait().progress
    assert (last.percent, last.message) == (40.0, "y")


def test_who_floods_progress_does_not_wait_and_does_not_flood_the_status(attempt: Start):
    flood = "yes '50 of it' | head -n 300000 > $TASK_RUNNER_PROGRESS; yes '' | head -c 3000000 > $TASK_RUNNER_PROGRESS; "
    flood += "head -c 1000000 /dev/zero | tr '\\0' x > $TASK_RUNNER_PROGRESS; printf '\\n99 end\\n' > $TASK_RUNNER_PROGRESS"
    task = attempt({"actions": [shell(flood)], "progress": True})
    status = task.wait()
    assert (status.outcome, status.progress.percent, status.progress.message) == (Outcome.SUCCEEDED, 99.0, "end")


def test_a_machine_tells_its_progress_and_never_fails_for_it(tmp_path: Path):
    def context(path: str | None) -> Context:
        return Context(task_id="x", attempt=1, action_index=0, work="/", env={}, stdout=1, stderr=2, locks="/", progress=path)

    fifo = str(tmp_path / "progress")
    os.mkfifo(fifo)
    for path in (None, str(tmp_path / "missing"), str(tmp_path), fifo):
        progress.report(context(path), 5)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    progress.report(context(fifo), 12.345, "two\nlines " + "\N{SNOWMAN}" * 500)
    progress.report(context(fifo), None, "on")
    first, second = os.read(reader, 1 << 16).splitlines(keepends=True)
    assert parse(first)[0] == 12.3 and parse(first)[1].startswith("two lines \N{SNOWMAN}") and len(first) <= progress.LONGEST
    assert second == b"- on\n"
    for _ in range(10_000):
        progress.report(context(fifo), 1, "full")  # nobody reads: it is dropped
    os.close(reader)


def test_a_task_that_asks_for_nothing_has_no_extra_files(attempt: Start):
    task = attempt({"actions": [shell(f"echo on; {AWAIT.format('go')}; env")]})
    task.said(b"on")
    task.until(lambda status: status.state is State.RUNNING, "what it has to tell is told: no file of that is open")
    names = {path.name for path in Path(task.directory.task).iterdir()}
    assert names <= {"lock", "output.log", "status.json", ".status.reserve", "work"}
    opened = [os.readlink(link) for link in Path(f"/proc/{task.runner.pid}/fd").iterdir()]
    assert len([path for path in opened if path.startswith("pipe:")]) == 2  # the inbox
    go(task)
    task.wait()
    assert b"TASK_RUNNER_PROGRESS" not in task.output


# -- silence


def test_a_silent_task_is_marked_until_it_moves_again(attempt: Start):
    task = attempt({"actions": [shell(f"{AWAIT.format('never')} & wait; ".replace(AWAIT.format('never'), "sleep 600") + "exit 0")],
                    "stall": {"afterSeconds": 0.5}})
    marked = task.until(lambda status: status.silence)
    assert marked.state is State.RUNNING
    assert marked.silence.reason == "no output, processor time or progress for 0.5 s"
    assert marked.silence.since < marked.heartbeat.at
    task.send(signal.SIGRTMIN - 1 + signal.SIGSTOP)  # a signal for the command alone is no sign of life
    assert task.status.silence is not None
    task.stop()
    status = task.wait()
    assert (status.outcome, status.silence) == (Outcome.CANCELLED, None)


@pytest.mark.parametrize(
    "sign", ["echo more", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done", "echo 50 > $TASK_RUNNER_PROGRESS"]
)
def test_the_mark_goes_when_something_happens(attempt: Start, sign: str):
    task = attempt({"actions": [shell(f"read line; {sign}; read line", parameters={"openStdin": True})],
                    "stall": {"afterSeconds": 0.4}, "progress": True})
    first = task.until(lambda status: status.silence).silence
    task.feed(b"\n")
    # the time in between may be too short to be seen; the next silence begins later than the first
    task.until(lambda status: status.silence and status.silence.since > first.since, "it has moved, and is silent again")
    task.feed(b"\n", end=True)
    assert task.wait().outcome is Outcome.SUCCEEDED


def test_a_task_that_is_to_be_stopped_when_silent_ends_timed_out_and_is_cleaned_up(attempt: Start):
    task = attempt({"actions": [shell("sleep 600", retry={"count": 3}), shell("exit 0")], "cleanup": [shell("sleep 1; echo bye")],
                    "stall": {"afterSeconds": 0.4, "then": "stop"}})
    status = task.wait()
    assert (status.outcome, outcomes(status)) == (Outcome.TIMED_OUT, ["timed_out", None, "succeeded"])
    assert status.error == "stopped: no output, processor time or progress for 0.4 s"
    assert status.receipt is not None and status.receipt.reason == "stalled"
    assert task.output == b"bye\n"


def test_a_pause_is_no_silence(attempt: Start):
    # it speaks while it runs, however long it takes until it is paused
    speaks = "while [ ! -e go ]; do echo x; sleep 0.1; done; exit 4"
    task = attempt({"actions": [shell(speaks)], "stall": {"afterSeconds": 1, "then": "stop"}})
    task.until(lambda status: status.state is State.RUNNING)
    task.pause()
    paused = task.until(lambda status: status.state is State.PAUSED)
    wait_for(lambda: pulse(task) > paused.heartbeat.monotonic + 2.5)
    go(task)
    task.resume()
    assert task.wait().exit_code == 4


def test_a_runner_that_was_stopped_itself_does_not_call_its_task_silent(attempt: Start):
    """The time it could not look is not held against the task, which has worked all the while, now and then."""
    busy = "while [ ! -e go ]; do echo x > /dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05; done; exit 4"
    task = attempt({"actions": [shell(busy)], "stall": {"afterSeconds": 1.2, "then": "stop"}})
    task.until(lambda status: status.state is State.RUNNING)
    suspend(task.runner.pid)
    before = pulse(task)
    wait_for(lambda: __import__("time").clock_gettime(1) > before + 3, "longer than the silence that is allowed")
    task.send(signal.SIGCONT)
    wait_for(lambda: pulse(task) > before + 3)
    go(task)
    assert task.wait().exit_code == 4


def test_a_time_in_which_the_runner_could_not_look_counts_for_little(monkeypatch: pytest.MonkeyPatch):
    clock = HandClock()
    time = TaskTime(clock)
    family = Family(os.getpid(), clock, None)
    family.main = 1
    policy = StallPolicy(after_seconds=8)
    watch = StallWatch(policy, os.getpid(), family, time, clock, lambda: (0,), lambda: None)
    monkeypatch.setattr(watch, "_look", lambda: Signs(counts=(0,), cpu=1.0, ready=False))
    watch.turn(clock.now)
    clock.now += 3600  # the runner was stopped for an hour
    watch.turn(clock.now)
    assert watch.silence is None
    looks = 0
    while watch.silence is None:
        assert watch.due() is not None
        clock.now += 2
        watch.turn(clock.now)
        looks += 1
    assert looks == 2


def test_what_counts_as_a_sign():
    def signs(cpu: float, *, count: int = 0, ready: bool = False) -> Signs:
        return Signs(counts=(count,), cpu=cpu, ready=ready)

    tick = 0.01
    assert not moved(signs(1), signs(1), 0.25, tick)
    assert moved(signs(1), signs(1.01), 0.25, tick)
    assert moved(signs(1), signs(1, count=1), 0.25, tick)
    assert moved(signs(1), signs(1, ready=True), 0.25, tick)
    assert moved(signs(1), signs(0.9), 0.25, tick)
    # a thousandth of the time is what somebody uses who only looks at the clock now and then
    assert not moved(signs(1), signs(1.01), 60, tick)
    assert moved(signs(1), signs(1.1), 60, tick)


# -- input


def test_input_reaches_the_command_as_it_comes_and_ends(attempt: Start):
    task = attempt({"actions": [shell("while read line; do echo got $line; done; echo end", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    assert task.status.input_bytes == 0
    assert task.feed(b"a\n") == 2
    task.said(b"got a\n")
    assert task.feed(b"b\nc", offset=2) == 5
    task.said(b"got b\n")
    assert task.feed(b"\n", end=True) == 6
    status = task.wait()
    assert task.output == b"got a\ngot b\ngot c\nend\n"
    assert (status.outcome, status.input_bytes) == (Outcome.SUCCEEDED, 6)


def test_input_that_nobody_asked_for_is_not_there(attempt: Start):
    task = attempt({"actions": [shell("cat; echo end")]})
    assert (task.wait().input_bytes, task.output) == (None, b"end\n")


def test_much_input_waits_for_a_slow_reader_and_not_for_the_runner(attempt: Start):
    data = os.urandom(3_000_000)
    task = attempt({"actions": [shell(f"{AWAIT.format('go')}; sha256sum", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    for start in range(0, len(data), 1_000_000):
        task.feed(data[start : start + 1_000_000], offset=start, end=start == 2_000_000)
    last = pulse(task)
    wait_for(lambda: pulse(task) > last, "the runner lives")
    idle = process.look(task.runner.pid).ticks
    last = pulse(task)
    wait_for(lambda: pulse(task) > last)
    assert process.look(task.runner.pid).ticks - idle < 20, "it does not spin on a pipe that is full"
    go(task)
    status = task.wait()
    import hashlib

    assert task.output.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert status.input_bytes == len(data)


def test_a_command_that_closes_its_input_is_not_harmed_and_the_next_gets_the_rest(attempt: Start):
    first = shell(f"head -c 3; exec <&-; {AWAIT.format('go')}", parameters={"openStdin": True})
    task = attempt({"actions": [first, shell("cat", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    task.feed(b"abc")
    task.said(b"abc")
    # it may be that its pipe still takes this, which is then gone with it
    task.feed(b"lost")
    go(task)
    task.until(lambda status: status.current_action_idx == 1 and status.state is State.RUNNING)
    task.feed(b"more", end=True)
    status = task.wait()
    assert status.outcome is Outcome.SUCCEEDED
    assert task.output in (b"abcmore", b"abclostmore")


def test_input_that_came_before_the_action_and_the_end_of_it_are_not_forgotten(attempt: Start):
    task = attempt({"actions": [shell(AWAIT.format("go")), shell("cat", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    task.feed(b"early", end=True)
    go(task)
    task.wait()
    assert task.output == b"early"


def test_a_runner_that_was_not_told_finds_the_input_itself(attempt: Start):
    task = attempt({"actions": [shell("cat", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    inputspool.append(task.directory, b"quiet", None, True)  # the daemon died before it could tell
    task.wait()
    assert task.output == b"quiet"


def test_a_runner_does_not_read_what_may_be_taken_back(attempt: Start):
    import fcntl

    task = attempt({"actions": [shell("cat", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    fd = os.open(task.directory.input, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, b"half a requ")
    task.send(signal.SIGURG)
    for _ in range(2):
        last = pulse(task)
        wait_for(lambda last=last: pulse(task) > last)
    assert task.output == b""
    os.ftruncate(fd, 0)
    os.close(fd)
    task.feed(b"whole", end=True)
    task.wait()
    assert task.output == b"whole"


def test_a_task_that_waits_for_input_can_be_paused_and_stopped(attempt: Start):
    task = attempt({"actions": [shell("cat", parameters={"openStdin": True})]})
    task.until(lambda status: status.state is State.RUNNING)
    task.pause()
    task.until(lambda status: status.state is State.PAUSED)
    task.feed(b"while paused")
    task.resume()
    task.said(b"while paused")
    task.stop()
    assert task.wait().outcome is Outcome.CANCELLED


@pytest.fixture
def spool(tmp_path: Path) -> AttemptDirectory:
    directory = AttemptDirectory(str(tmp_path / "task"), 1)
    directory.create()
    return directory


def test_input_is_refused_at_another_offset_and_after_its_end(spool: AttemptDirectory):
    assert inputspool.append(spool, b"abc", 0, False) == 3
    for offset in (0, 2, 4):
        with pytest.raises(Conflict, match="3 bytes of input have come so far"):
            inputspool.append(spool, b"x", offset, False)
    assert inputspool.append(spool, b"", None, True) == 3
    for end in (False, True):
        with pytest.raises(Conflict, match="ended after 3 bytes"):
            inputspool.append(spool, b"x", None, end)
    assert Path(spool.input).read_bytes() == b"abc"


def test_input_that_is_sent_again_is_kept_once(spool: AttemptDirectory):
    for _ in range(2):
        assert inputspool.append(spool, b"abc", 0, False) == 3
        assert not os.path.exists(spool.input_end)
    for _ in range(2):  # the first time as after a daemon that died before it could mark the end
        assert inputspool.append(spool, b"abc", 0, True) == 3
        assert os.path.exists(spool.input_end)
    assert Path(spool.input).read_bytes() == b"abc"


def test_requests_at_the_same_time_do_not_mix(spool: AttemptDirectory):
    from concurrent.futures import ThreadPoolExecutor

    pieces = [bytes([65 + number]) * 300_000 for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda piece: inputspool.append(spool, piece, None, False), pieces))
    found = [match.group() for match in re.finditer(rb"(.)\1*", Path(spool.input).read_bytes())]
    assert sorted(found) == pieces


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.needs("root")
def test_input_without_space_is_refused_whole(small_disk: Path):
    directory = AttemptDirectory(str(small_disk / "task"), 1)
    directory.create()
    assert inputspool.append(directory, b"x" * 100_000, None, False) == 100_000
    with pytest.raises(StorageFull, match="none of it was taken"):
        inputspool.append(directory, b"y" * 2_000_000, 100_000, True)
    assert Path(directory.input).read_bytes() == b"x" * 100_000
    assert not os.path.exists(directory.input_end)
    assert inputspool.append(directory, b"z", 100_000, True) == 100_001


@pytest.mark.needs("root")
def test_an_ending_with_all_that_a_task_can_have_fits_on_a_full_disk(attempt: Start, small_disk: Path, tmp_path: Path):
    awaiting = f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
    spec = {"actions": [shell(f"echo '50 half' > $TASK_RUNNER_PROGRESS; {awaiting}; echo '90 nearly' > $TASK_RUNNER_PROGRESS; exit 5",
                              name="\N{SNOWMAN}" * 200, parameters={"openStdin": True})],
            "cleanup": [shell("exit 3", name="n" * 200)] * 20, "progress": True, "stall": {"afterSeconds": 600},
            "secrets": USES, "outputMode": "separate", "maxOutputBytes": 65_536}
    task = attempt(spec, path=small_disk / "task", grant={"secrets": {"db": "d", "key.pem": "k"}, "gpus": list(range(50))})
    task.until(lambda status: status.state is State.RUNNING)
    with open(small_disk / "filler", "ab", buffering=0) as filler:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    (tmp_path / "go").touch()
    status = task.wait()
    assert (status.outcome, status.exit_code, status.progress.percent) == (Outcome.FAILED, 5, 90.0)
    assert [each.exit_code for each in status.actions] == [5] + [3] * 20


# -- files


def test_files_are_there_before_the_first_action(attempt: Start):
    files = [{"path": "in/a.txt", "text": "hello\n", "mode": "0600"}, {"path": "b", "base64": "Ynl0ZXM="}]
    task = attempt({"actions": [shell("cat in/a.txt b; stat -c %a in/a.txt")], "files": files})
    assert task.wait().outcome is Outcome.SUCCEEDED
    assert task.output == b"hello\nbytes600\n"


def test_files_that_cannot_be_placed_fail_the_task_with_the_reason_and_the_cleanup_runs(attempt: Start):
    files = [{"path": "a", "text": "x"}, {"path": "b", "hostPath": "/etc/hostname"}]
    task = attempt({"actions": [shell("echo never")], "files": files, "cleanup": [shell("ls")]})
    status = task.wait()
    assert (status.outcome, status.exit_code, outcomes(status)) == (Outcome.FAILED, None, [None, "succeeded"])
    assert status.error.startswith("files: b: ")
    assert "never" not in task.output.decode()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"


@pytest.mark.parametrize("way", ["stop", "timeout"])
def test_placing_files_can_be_stopped(attempt: Start, silent_server: str, way: str):
    files = [{"path": "a", "fetch": {"url": silent_server, "timeoutSeconds": 600}}]
    limit = {"timeoutSeconds": 2} if way == "timeout" else {}
    task = attempt({"actions": [shell("echo never")], "files": files, "cleanup": [shell("echo bye")], **limit})
    # on a machine that stands still for a while the time may be over before anybody looks
    task.until(lambda status: status.state is State.PROVISIONING or (way == "timeout" and status.outcome))
    task.pause()  # is refused: there is nothing to pause yet
    if way == "stop":
        task.stop()
    status = task.wait()
    assert (status.outcome, task.output) == ({"stop": Outcome.CANCELLED, "timeout": Outcome.TIMED_OUT}[way], b"bye\n")
    assert status.receipt is not None and status.receipt.reason == way
    assert (status.paused_seconds, status.error) == (0.0, None)


def test_a_runner_that_dies_while_it_places_files_leaves_nobody(attempt: Start, silent_server: str):
    files = [{"path": "a", "fetch": {"url": silent_server, "timeoutSeconds": 600}}]
    task = attempt({"actions": [shell("echo never")], "files": files})
    task.until(lambda status: status.state is State.PROVISIONING)
    (child,) = wait_for(lambda: process.descendants(task.runner.pid))
    task.runner.kill()
    task.runner.wait()
    wait_for(lambda: (seen := process.look(child.pid)) is None or seen.start_time != child.start_time or not seen.alive)


def test_files_of_this_machine_come_from_the_directories_that_are_allowed(attempt: Start, tmp_path: Path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "x").write_text("here\n")
    files = [{"path": "x", "hostPath": str(tmp_path / "allowed" / "x")}]
    task = attempt({"actions": [shell("cat x")], "files": files}, hostFiles=[str(tmp_path / "allowed")])
    assert task.wait().outcome is Outcome.SUCCEEDED
    assert task.output == b"here\n"

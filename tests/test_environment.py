"""The contract of environment/base.py, kept by every environment."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from attempts import suspend
from conftest import PATIENCE, kill_tasks, wait_for

from task_runner.environment.base import Environment, Launch, Refusal
from task_runner.environment.memory import MemoryEnvironment
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.errors import Conflict
from task_runner.lib import launcher
from task_runner.lib.clock import SystemClock
from task_runner.lib.request import encode_request
from task_runner.lib.statedir import StateDirectory
from task_runner.model.grant import Grant
from task_runner.model.state import Outcome, State


class Listener:
    """Takes what an environment tells."""

    def __init__(self) -> None:
        self.news: list[str] = []
        self.refusals: list[Refusal] = []
        self.outages = 0

    def outage(self) -> None:
        self.outages += 1


#: ids as the daemon makes them; others in every process, for what lives of a task is found by its id
ONE, TWO, NOBODY = os.urandom(8).hex(), os.urandom(8).hex(), "f" * 16

Opened = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Environment, Listener]]]


@pytest.fixture(params=["memory", "multiprocess"])
def opened(request, tmp_path) -> Opened:
    state = StateDirectory(str(tmp_path / "state"))
    state.create()

    @contextlib.asynccontextmanager
    async def open_environment() -> AsyncIterator[tuple[Environment, Listener]]:
        environment: Environment
        if request.param == "memory":
            environment = MemoryEnvironment(SystemClock())
        else:
            environment = MultiprocessEnvironment(state, heartbeat_seconds=0.5)
        listener = Listener()
        await environment.open(listener.news.append, listener.refusals.append, listener.outage)
        try:
            yield environment, listener
        finally:
            await environment.close()
            kill_tasks(state)

    return open_environment


def launch(task_id: str, *command: str, attempt: int = 1, grant: Grant | None = None, **more: object) -> Launch:
    actions = [{"machine": "process", "parameters": {"command": list(command), **more}}]
    return Launch(task_id=task_id, attempt=attempt, spec=json.dumps({"actions": actions}), grant=grant)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def state_of(environment: Environment, task_id: str, attempt: int = 1) -> State | None:
    status = environment.look(task_id, attempt).status
    return status.state if status else None


def contract(test):
    """Runs an async test against each environment."""

    def run(opened: Opened) -> None:
        async def go() -> None:
            async with opened() as (environment, listener):
                await test(environment, listener)

        asyncio.run(go())

    run.__name__ = test.__name__
    return run


@contract
async def test_nothing_is_seen_of_what_was_not_launched(environment, listener):
    sighting = environment.look(NOBODY, 1)
    assert not sighting.claimed and not sighting.alive and sighting.status is None
    assert environment.known() == []


@contract
async def test_a_launch_runs_ends_and_is_news(environment, listener):
    environment.launch(launch(ONE, "false"))
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    status = environment.look(ONE, 1).status
    assert (status.outcome, status.exit_code, status.task_id, status.attempt) == (Outcome.FAILED, 1, ONE, 1)
    await until(lambda: ONE in listener.news)
    assert environment.known() == [ONE]


@contract
async def test_a_running_attempt_is_alive_and_has_a_pulse(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    sighting = environment.look(ONE, 1)
    assert sighting.claimed and sighting.alive and not sighting.void
    assert sighting.heartbeat is not None and sighting.process_state is not None


def test_a_runner_is_watched_for_whoever_looks_from_the_event_loop(opened):
    def watched() -> int:
        return sum("pidfd" in link for link in map(_link, os.listdir("/proc/self/fd")))

    async def go() -> None:
        async with opened() as (environment, _listener):
            environment.launch(launch(ONE, "sleep", "600"))
            await until(lambda: state_of(environment, ONE) is State.RUNNING)
            environment.forget(ONE)
            none = watched()
            assert (await asyncio.to_thread(environment.look, ONE, 1)).process_state is not None
            assert watched() == none
            environment.look(ONE, 1)
            assert watched() == none + isinstance(environment, MultiprocessEnvironment)

    asyncio.run(go())


def _link(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""  # that of the listing itself


@contract
async def test_what_runs_is_measured_and_what_has_ended_is_left_out(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    environment.launch(launch(TWO, "true"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING and state_of(environment, TWO) is State.EXITED)
    await until(lambda: not environment.look(TWO, 1).alive)
    statuses = [environment.look(each, 1).status for each in (ONE, TWO)]
    found = await asyncio.to_thread(environment.measure, statuses)
    assert set(found) == {ONE}
    assert (found[ONE].processes, found[ONE].cpu_seconds is None, found[ONE].rss_bytes is None) == (1, False, False)


@contract
async def test_stop_ends_it_with_a_receipt(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    assert environment.stop(ONE, 1, None, 1.0)
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    status = environment.look(ONE, 1).status
    assert status.outcome is Outcome.CANCELLED
    assert (status.receipt.reason, status.receipt.signalled_count) == ("stop", 1)
    await until(lambda: not environment.look(ONE, 1).alive)


@contract
async def test_pause_and_resume(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    assert environment.pause(ONE, 1)
    await until(lambda: state_of(environment, ONE) is State.PAUSED)
    assert environment.resume(ONE, 1)
    await until(lambda: state_of(environment, ONE) is State.RUNNING)


@contract
async def test_a_signal_reaches_the_command(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    assert environment.signal(ONE, 1, 9)
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    assert environment.look(ONE, 1).status.signal == "SIGKILL"


@contract
async def test_what_has_no_runner_cannot_be_asked_for_anything(environment, listener):
    assert not environment.stop(NOBODY, 1, None, None)
    assert not environment.pause(NOBODY, 1)
    assert not environment.resume(NOBODY, 1)
    assert not environment.signal(NOBODY, 1, 15)
    assert not environment.abandon(NOBODY, 1)
    assert environment.clear(NOBODY) is None


@contract
async def test_a_launch_that_was_claimed_cannot_be_recalled(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: environment.look(ONE, 1).claimed)
    assert not environment.recall(ONE, 1)


@contract
async def test_a_launch_that_was_recalled_can_be_launched_again(environment, listener):
    assert environment.recall(ONE, 1)
    environment.launch(launch(ONE, "true"))
    await until(lambda: state_of(environment, ONE) is State.EXITED)


@contract
async def test_the_same_attempt_launched_twice_runs_once(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    runner = environment.look(ONE, 1).runner
    environment.launch(launch(TWO, "true"))  # requests are carried out in order: behind both
    await until(lambda: state_of(environment, TWO) is State.EXITED)
    assert environment.look(ONE, 1).runner == runner


@contract
async def test_a_second_attempt_leaves_the_first_as_it_is(environment, listener):
    environment.launch(launch(ONE, "false"))
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    environment.launch(launch(ONE, "true", attempt=2))
    await until(lambda: state_of(environment, ONE, 2) is State.EXITED)
    assert environment.look(ONE, 1).status.outcome is Outcome.FAILED
    assert environment.look(ONE, 2).status.outcome is Outcome.SUCCEEDED


@contract
async def test_an_abandoned_runner_is_gone_and_has_said_nothing(environment, listener):
    environment.launch(launch(ONE, "sleep", "600"))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    assert environment.abandon(ONE, 1)
    await until(lambda: not environment.look(ONE, 1).alive)
    assert state_of(environment, ONE) is State.RUNNING
    await asyncio.to_thread(environment.clear, ONE)


@contract
async def test_discard_leaves_nothing(environment, listener):
    environment.launch(launch(ONE, "true"))
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    await until(lambda: not environment.look(ONE, 1).alive)
    environment.discard(ONE)
    assert environment.known() == []
    assert not environment.look(ONE, 1).claimed


@contract
async def test_granted_processors_are_seen_as_long_as_the_attempt_is_known(environment, listener):
    environment.launch(launch(ONE, "true", grant=Grant(gpus=[0, 3])))
    environment.launch(launch(TWO, "true"))
    await until(lambda: state_of(environment, ONE) is State.EXITED and state_of(environment, TWO) is State.EXITED)
    assert environment.look(ONE, 1).gpus == (0, 3)
    assert environment.look(TWO, 1).gpus == ()


@contract
async def test_input_is_counted_and_refused_where_it_does_not_fit(environment, listener):
    environment.launch(launch(ONE, "cat", openStdin=True))
    await until(lambda: state_of(environment, ONE) is State.RUNNING)
    assert environment.feed(ONE, 1, b"abc", None, False) == 3
    assert environment.feed(ONE, 1, b"de", 3, False) == 5
    assert environment.feed(ONE, 1, b"de", 3, False) == 5  # again, since the answer got lost: it is kept once
    for offset in (0, 3, 6):
        with pytest.raises(Conflict, match="5 bytes of input"):
            environment.feed(ONE, 1, b"x", offset, True)
    assert environment.feed(ONE, 1, b"f", 5, True) == 6


@contract
async def test_what_has_no_runner_takes_no_input(environment, listener):
    assert environment.feed(NOBODY, 1, b"x", None, False) is None
    environment.launch(launch(ONE, "true"))
    await until(lambda: state_of(environment, ONE) is State.EXITED)
    await until(lambda: not environment.look(ONE, 1).alive)
    assert environment.feed(ONE, 1, b"x", None, False) is None


# -- this machine alone


@pytest.fixture
def machine(tmp_path) -> StateDirectory:
    state = StateDirectory(str(tmp_path / "state"))
    state.create()
    return state


def on_this_machine(state: StateDirectory, test: Callable[[MultiprocessEnvironment], Awaitable[None]]) -> None:
    async def run() -> None:
        environment = MultiprocessEnvironment(state, heartbeat_seconds=0.5)
        listener = Listener()
        await environment.open(listener.news.append, listener.refusals.append, listener.outage)
        try:
            await test(environment)
        finally:
            await environment.close()
            kill_tasks(state)

    asyncio.run(run())


def test_a_grant_reaches_the_command_and_no_file(machine):
    grant = Grant(secrets={"db": "hunter2-long"}, env={"GREETING": "hello"}, gpus=[1])
    spec = {
        "actions": [{"machine": "process", "parameters": {"shell": 'echo "$GREETING $CUDA_VISIBLE_DEVICES ${#DB}"; sleep 600'}}],
        "secrets": [{"name": "db", "env": "DB"}],
    }

    async def go(environment: MultiprocessEnvironment) -> None:
        environment.launch(Launch(task_id=ONE, attempt=1, spec=json.dumps(spec), grant=grant))
        output = Path(environment.output_path(ONE, 1))
        await until(lambda: output.exists() and output.read_bytes() == b"hello 1 12\n")
        suspend(environment.look(ONE, 1).runner.pid)  # its files come and go while it runs
        for path in Path(machine.path).rglob("*"):
            if path.is_file():
                assert b"hunter2" not in path.read_bytes(), path

    on_this_machine(machine, go)


def test_secret_files_of_a_runner_that_died_go_when_its_task_is_cleared(machine):
    spec = {
        "actions": [{"machine": "process", "parameters": {"command": ["sleep", "600"]}}],
        "secrets": [{"name": "db", "fileEnv": "DB"}],
    }

    async def go(environment: MultiprocessEnvironment) -> None:
        for attempt in (1, 2):
            directory = machine.tasks.attempt(ONE, attempt)
            grant = Grant(secrets={"db": "hunter2"})
            environment.launch(Launch(task_id=ONE, attempt=attempt, spec=json.dumps(spec), grant=grant))
            await until(lambda attempt=attempt: state_of(environment, ONE, attempt) is State.RUNNING)
            assert Path(directory.secrets, "db").read_text() == "hunter2"
            environment.abandon(ONE, attempt)
            await until(lambda attempt=attempt: not environment.look(ONE, attempt).alive)
            assert Path(directory.secrets, "db").exists()
        receipt = await asyncio.to_thread(environment.clear, ONE)
        assert receipt is not None and receipt.killed_count == 2
        for attempt in (1, 2):
            assert not Path(machine.tasks.attempt(ONE, attempt).secrets).exists()

    on_this_machine(machine, go)


def test_a_launcher_that_cannot_fork_says_so_and_serves_on(monkeypatch, tmp_path):
    def no_fork() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    ours, theirs = socket.socketpair()
    spec = json.dumps({"actions": [{"no": "action"}]}).encode()
    requests = [encode_request(task_id, 2, str(tmp_path / task_id), spec, b"{}", Grant(gpus=[1])) for task_id in (ONE, TWO)]
    with ours, theirs:
        monkeypatch.setattr(launcher.os, "fork", no_fork)
        launcher._serve(io.BytesIO(b"".join(requests)), theirs, -1)
        answers = [json.loads(line) for line in ours.recv(1 << 16).splitlines()]
    assert [(each["id"], each["attempt"]) for each in answers] == [(ONE, 2), (TWO, 2)]
    assert {each["error"] for each in answers} == {"fork: Resource temporarily unavailable"}
    assert not (tmp_path / ONE).exists()


def test_input_that_was_kept_by_a_daemon_that_died_is_passed_on(make_daemon):
    daemon = make_daemon().start(TASK_RUNNER_FAILPOINT="feed.kept")
    task_id = daemon.submit(machine="process", parameters={"command": ["cat"], "openStdin": True})
    daemon.wait_state(task_id, "running")
    headers = {"Content-Type": "application/octet-stream"}
    with pytest.raises(httpx.TransportError):
        daemon.http.post(f"/v1/tasks/{task_id}/input?offset=0", content=b"kept\n", headers=headers)
    daemon.restart()
    wait_for(lambda: daemon.output(task_id) == b"kept\n", "the runner has found it by itself")
    for data, query in ((b"kept\n", "offset=0"), (b"end", "offset=5&end=true")):
        answer = daemon.http.post(f"/v1/tasks/{task_id}/input?{query}", content=data, headers=headers)
        assert answer.status_code == 200, answer.text
    assert daemon.wait(task_id)["exitCode"] == 0
    assert daemon.output(task_id) == b"kept\nend"

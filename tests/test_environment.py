"""The contract of environment/base.py, kept by every environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable

import pytest
from conftest import PATIENCE, kill_tasks

from task_runner.environment.base import Environment, Launch, Refusal
from task_runner.environment.memory import MemoryEnvironment
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.lib.clock import SystemClock
from task_runner.lib.statedir import StateDirectory
from task_runner.model.state import Outcome, State


class Listener:
    """Takes what an environment tells."""

    def __init__(self) -> None:
        self.news: list[str] = []
        self.refusals: list[Refusal] = []
        self.outages = 0

    def outage(self) -> None:
        self.outages += 1


#: ids as the daemon makes them
ONE, TWO, NOBODY = "0" * 15 + "1", "0" * 15 + "2", "f" * 16

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


def launch(task_id: str, *command: str, attempt: int = 1) -> Launch:
    actions = [{"machine": "process", "parameters": {"command": list(command)}}]
    return Launch(task_id=task_id, attempt=attempt, spec=json.dumps({"actions": actions}))


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

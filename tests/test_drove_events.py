"""Drove's events: which changes are told, what is said of each, and how they are found in the store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from task_runner.api.dialects.drove.events import view
from task_runner.api.dialects.drove.record import DroveRecord
from task_runner.api.dialects.drove.taskinfo import Place
from task_runner.model.codec import to_json
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, ContainerNote, Heartbeat, Identity, Status
from task_runner.service.statements import StoredChange, StoredEvent, keep_event
from task_runner.service.store import Store
from task_runner.service.task import Record, Task

HERE = Place("93b6b6f3-c7c8-3824-afc9-cb6d0b32454c", "host-1")
ASKED = DroveRecord(
    source_app_name="APP",
    task_id="T1",
    instance_id="TI-1",
    executable={"type": "DOCKER", "url": "busybox:1", "dockerPullTimeout": "1 minute"},
)
NAMES = {
    "APP_NAME": "APP", "TASK_ID": "T1", "INSTANCE_ID": "TI-1", "EXECUTABLE": "busybox:1", "CREATED": 1767225600000,
}  # fmt: skip
PLACED = {**NAMES, "EXECUTOR_ID": HERE.executor_id, "EXECUTOR_HOST": "host-1"}


def task_with(**record: Any) -> Task:
    spec = Spec(
        actions=[Action(machine="container", parameters={"image": "busybox:1"})],
        alias=ASKED.alias,
        metadata=ASKED.metadata(),
    )
    return Task(
        id="0123456789abcdef",
        seq=1,
        spec_json=json.dumps(to_json(spec)),
        name=None,
        tags={},
        alias=ASKED.alias,
        record=Record(**{"state": State.RUNNING, "origin": "drove", "created_at": "2026-01-01T00:00:00.000000Z", **record}),
    )


def failed_task(**more: Any) -> Task:
    """One whose container has ended with 3."""
    action = ActionStatus(
        index=0,
        machine="container",
        state="exited",
        outcome=Outcome.FAILED,
        exit_code=3,
        container=ContainerNote(engine="podman", name="c", image="busybox:1"),
    )
    status = Status(
        task_id="0123456789abcdef",
        runner=Identity(pid=1, start_time=1, boot_id="b"),
        state=State.EXITED,
        outcome=Outcome.FAILED,
        exit_code=3,
        actions=[action],
        heartbeat=Heartbeat(at="2026-01-01T00:00:01.000000Z", monotonic=1.0),
    )
    return task_with(state=State.EXITED, outcome=Outcome.FAILED, status=status, **more)


def change(before: str | None = None, *, attempt: int = 1, **data: Any) -> StoredChange:
    """A change to this, from one of this state."""
    event = StoredEvent(7, "0123456789abcdef", "2026-01-01T00:00:02.345678Z", {"attempt": attempt, **data})
    return StoredChange(event, before and {"attempt": attempt, "state": before})


def metadata(found: dict[str, Any] | None) -> dict[str, Any]:
    assert found is not None
    return {name: value for name, value in found["metadata"].items() if value is not None}


def test_an_event_has_an_id_of_its_own_and_the_time_of_the_change():
    found = view(change(state="pending"), task_with(), HERE)
    assert found is not None
    assert (found["type"], found["time"]) == ("TASK_STATE_CHANGE", 1767225602345)
    assert view(change(state="pending"), task_with(), HERE) == found
    assert len(found["id"]) == 36


def test_a_task_that_waits_is_on_no_executor():
    assert metadata(view(change(state="pending"), task_with(), HERE)) == {**NAMES, "CURRENT_STATE": "PENDING"}


def test_a_task_that_runs_has_no_result_though_it_has_ended_since():
    told = metadata(view(change("starting", state="running"), failed_task(), HERE))
    assert told == {**PLACED, "CURRENT_STATE": "RUNNING"}


def test_the_end_is_told_with_its_result():
    told = metadata(view(change("running", state="exited"), failed_task(), HERE))
    assert (told.pop("RESULT_STATUS"), told.pop("RESULT_EXIT_CODE")) == ("FAILED", 3)
    assert told.pop("ERROR").startswith("Task instance exited with status: 3")
    assert told == {**PLACED, "CURRENT_STATE": "STOPPED"}


def test_of_an_earlier_attempt_no_result_is_told():
    told = metadata(view(change("running", state="exited"), failed_task(attempt=2), HERE))
    assert told == {**PLACED, "CURRENT_STATE": "STOPPED"}


@pytest.mark.parametrize(("before", "after"), [("running", "paused"), ("paused", "running"), ("scheduled", "pending")])
def test_what_is_the_same_to_drove_is_no_change(before: str, after: str):
    assert view(change(before, state=after), task_with(), HERE) is None


# -- the store


def stored(seq: int, task: str, state: str, *, origin: str | None = "drove", **more: Any) -> StoredEvent:
    return StoredEvent(seq, task, f"2026-01-01T00:00:{seq:02}.000000Z", {"state": state, "outcome": None, **more}, origin)


EVENTS = [
    stored(1, "a", "pending"),
    stored(2, "b", "pending", origin=None),
    stored(3, "a", "starting"),
    stored(4, "a", "starting", progress={"percent": 1}),
    stored(5, "c", "pending", origin="i3d"),
    stored(6, "d", "pending"),
    stored(7, "a", "running", containerStage="making"),
    stored(8, "a", "running", containerStage="running"),
    stored(9, "a", "running", containerStage="running", progress={"percent": 2}),
    stored(10, "a", "exited", outcome="failed"),
]


def found_in(path: Path, since: str, limit: int) -> list[tuple[int, str | None]]:
    """Number of each change that is found, newest first, and the state before it."""

    async def work() -> list[StoredChange]:
        store = Store(str(path / "tasks.db"))
        store.open()
        try:
            await store.write([keep_event(event) for event in EVENTS])
            return store.changes("drove", since, limit)
        finally:
            await asyncio.to_thread(store.close)

    return [(each.event.seq, each.before and each.before["state"]) for each in asyncio.run(work())]


SEARCHES = [
    ("", 100, [(10, "running"), (8, "running"), (7, "starting"), (6, None), (3, "pending"), (1, None)]),
    ("", 2, [(10, "running"), (8, "running")]),
    ("", 0, []),
    ("2026-01-01T00:00:07.000000Z", 100, [(10, "running"), (8, "running"), (7, "starting")]),
    ("2026-01-01T00:00:07.000001Z", 100, [(10, "running"), (8, "running")]),
    ("2027", 100, []),
]


@pytest.mark.parametrize(("since", "limit", "expected"), SEARCHES)
def test_changes_of_a_dialects_tasks(tmp_path: Path, since: str, limit: int, expected: list[Any]):
    assert found_in(tmp_path, since, limit) == expected

"""Changes of state as server-sent events: each once, in order, and resumable by id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from conftest import PATIENCE, Daemon, wait_for
from test_output import events

from task_runner.model.state import State, reachable

UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"


@contextmanager
def listening(daemon: Daemon, path: str = "/v1/events", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    headers = {"Authorization": f"Bearer {daemon.token}", **headers}
    with httpx.stream("GET", daemon.url + path, headers=headers, timeout=PATIENCE, verify=False) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines).startswith(":")  # from here on nothing is missed
        yield events(lines)


def until_over(told: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events up to the first ending."""
    found = []
    for event in told:
        found.append(event)
        if event["data"]["outcome"]:
            break
    return found


def states(found: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["state"] for event in found]


def test_the_events_of_a_task_tell_its_life(shared: Daemon):
    task_id = shared.submit("sh", "-c", "exit 3", name="told")
    with listening(shared, f"/v1/tasks/{task_id}/events") as told:
        found = until_over(told)
    assert {event["event"] for event in found} == {"state"}
    assert states(found)[0] == "pending"
    assert states(found)[-1] == "exited"
    for earlier, later in zip(states(found), states(found)[1:], strict=False):
        assert earlier == later or State(later) in reachable(State(earlier))
    last = found[-1]["data"]
    assert (last["taskId"], last["name"], last["outcome"], last["exitCode"]) == (task_id, "told", "failed", 3)
    assert last["at"] >= found[0]["data"]["at"]
    numbers = [int(event["id"]) for event in found]
    assert numbers == sorted(set(numbers))


def test_what_people_do_to_a_task_is_told(shared: Daemon):
    task_id = shared.submit("sh", "-c", UNTIL_GO)
    with listening(shared, f"/v1/tasks/{task_id}/events") as told:
        shared.wait_state(task_id, "running")
        for call, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopping")):
            shared.post(f"/v1/tasks/{task_id}/{call}")
            shared.wait_state(task_id, state, "exited")
        found = until_over(told)
    wanted = iter(states(found))
    assert all(state in wanted for state in ("running", "paused", "running", "exited")), states(found)
    assert found[-1]["data"]["outcome"] == "cancelled"


def test_a_listener_of_all_hears_of_what_is_new(shared: Daemon):
    old = shared.wait(shared.submit("true"))["taskId"]
    with listening(shared) as told:
        new = shared.submit("true")
        found = until_over(told)
    assert {event["data"]["taskId"] for event in found} == {new}
    assert old != new


def test_resuming_yields_what_came_after_and_nothing_twice(shared: Daemon):
    task_id = shared.submit("true")
    with listening(shared, f"/v1/tasks/{task_id}/events") as told:
        whole = until_over(told)
    for place, event in enumerate(whole[:-1]):
        with listening(shared, f"/v1/tasks/{task_id}/events", **{"Last-Event-ID": event["id"]}) as told:
            assert until_over(told) == whole[place + 1 :]
        with listening(shared, f"/v1/events?after={event['id']}") as told:
            mine = (each for each in told if each["data"]["taskId"] == task_id)
            assert until_over(mine) == whole[place + 1 :]


def gone(told: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return next(event for event in told if event["event"] == "gone")


def test_a_task_that_is_removed_is_told_of_without_an_id(shared: Daemon):
    other, task_id = (shared.wait(shared.submit("true"))["taskId"] for _ in range(2))
    with listening(shared) as all_told, listening(shared, f"/v1/tasks/{task_id}/events") as told:
        for each in (other, task_id):
            assert shared.http.delete(f"/v1/tasks/{each}").status_code == 200
        assert [gone(all_told)["data"]["tasks"] for _ in range(2)] == [[other], [task_id]]
        event = gone(told)
    assert (event["data"]["tasks"], event.get("id")) == ([task_id], None)
    assert event["data"]["at"]


def test_what_retention_removes_is_told_of_too(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(keep_finished_seconds=0.5, tidy_seconds=0.1).start()
    with listening(daemon) as told:
        task_id = daemon.submit("true")
        assert gone(told)["data"]["tasks"] == [task_id]


def test_the_events_of_a_removed_task_go_with_it(shared: Daemon):
    task_id = shared.wait(shared.submit("true"))["taskId"]
    shared.http.delete(f"/v1/tasks/{task_id}")
    wait_for(lambda: not (shared.state_dir / "tasks" / task_id).exists(), "it is removed")
    marker = shared.submit("true")
    shared.wait(marker)

    def heard() -> set[str]:
        with listening(shared, "/v1/events?after=0") as told:
            ids = set()
            for event in told:
                ids.add(event["data"]["taskId"])
                if event["data"]["taskId"] == marker and event["data"]["outcome"]:
                    return ids
        return ids

    wait_for(lambda: task_id not in heard(), "its events are gone")


class Listener:
    """Listens to everything from the beginning, and comes back with the last id when the daemon goes."""

    def __init__(self, daemon: Daemon) -> None:
        self.heard: list[dict[str, Any]] = []
        self.connections = 0
        self.failure: BaseException | None = None
        self._daemon = daemon
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def over(self) -> set[str]:
        return {event["data"]["taskId"] for event in list(self.heard) if event["data"]["outcome"]}

    def join(self) -> None:
        self._enough.set()
        self._daemon.submit("true")  # events that come after this: it looks up at the first of them
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        while not self._enough.is_set():
            last = self.heard[-1]["id"] if self.heard else "0"
            try:
                with listening(self._daemon, **{"Last-Event-ID": last}) as told:
                    self.connections += 1
                    for event in told:
                        self.heard.append(event)
                        if self._enough.is_set():
                            return
            except (httpx.TransportError, httpx.StreamError):
                pass  # the daemon was killed
            except BaseException as error:
                self.failure = error
                return


def test_every_event_once_over_killed_daemons(daemon: Daemon):
    listener = Listener(daemon)
    held = daemon.submit("sh", "-c", UNTIL_GO)
    made = [held]
    for life in range(3):
        made += [daemon.submit("sh", "-c", f"exit {number % 2}") for number in range(15)]
        wait_for(lambda life=life: listener.connections > life, "the listener has come back to this daemon")
        daemon.restart()
    daemon.wait_state(held, "running")
    (daemon.work(held) / "go").touch()
    tasks = {task_id: daemon.wait(task_id) for task_id in made}
    wait_for(lambda: listener.over() >= set(made), "every ending is heard")
    with listening(daemon, "/v1/events?after=0") as told:
        stored = []
        for event in told:
            stored.append(event)
            if len({e["data"]["taskId"] for e in stored if e["data"]["outcome"]}) == len(made):
                break
    listener.join()
    assert listener.heard[: len(stored)] == stored
    assert listener.connections >= 4
    numbers = [int(event["id"]) for event in listener.heard]
    assert numbers == sorted(set(numbers))
    endings = [event["data"] for event in stored if event["data"]["outcome"]]
    assert len(endings) == len(made)
    for ending in endings:
        task = tasks[ending["taskId"]]
        assert (ending["state"], ending["outcome"], ending["exitCode"]) == (
            task["state"],
            task["outcome"],
            task["exitCode"],
        )

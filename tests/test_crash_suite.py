"""SIGKILL of daemon, launcher or runners at random moments, under load, again and again (promises 1 to 5).

`pytest tests/test_crash_suite.py --crash-cycles 1000 --crash-seed 7` runs longer, or repeats a run.

Tasks of one action and of several with a cleanup, retried, scheduled, batched, of entities, paused and resumed. Every
command leaves a trace outside the store when it starts and when it ends. After every cycle: each accepted
task is there; what was said of an ending before is still said. At the end: none was started twice, and every ending
is what the command really did, or `lost` with evidence, and lost only if a runner was killed.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Daemon, wait_for

from task_runner.lib import lock, process


def line(trace: Path, nap: str, ending: str) -> str:
    """A shell line that leaves a trace of which action of which attempt starts and ends."""
    who = "$TASK_RUNNER_TASK_ID $TASK_RUNNER_ATTEMPT $TASK_RUNNER_ACTION"
    return f"echo start {who} >> {trace}; sleep {nap}; echo end {who} >> {trace}; {ending}"


@dataclass
class Expected:
    """What a task really does."""

    exit_code: int
    #: every action that runs, as (attempt, index)
    runs: set[tuple[int, int]]


def some_work(mine: random.Random, trace: Path) -> tuple[str, dict, list[Expected]]:
    """A path to post to, a body, and what its tasks do."""
    code, nap = mine.randrange(5), mine.choice(["0", "0", "0.02", "0.3", "2"])
    plain = {"shell": line(trace, nap, f"exit {code}")}
    kind = mine.choice(["plain", "plain", "steps", "retried", "scheduled", "batch"])
    if kind == "steps":
        body = {
            "actions": [
                {"machine": "process", "parameters": {"shell": line(trace, "0", "exit 1")}, "continueOnFailure": True},
                {"machine": "process", "parameters": plain},
            ],
            "cleanup": [{"machine": "process", "parameters": {"shell": line(trace, "0", "exit 0")}}],
        }
        return "/v1/tasks", body, [Expected(code, {(1, 0), (1, 1), (1, 2)})]
    if kind == "retried":
        body = {
            "shell": line(trace, nap, f"[ $TASK_RUNNER_ATTEMPT = 1 ] && exit 1; exit {code}"),
            "retry": {"count": 1, "delaySeconds": 0.1, "on": ["failed"]},
        }
        return "/v1/tasks", body, [Expected(code, {(1, 0), (2, 0)})]
    if kind == "scheduled":
        return "/v1/tasks", {**plain, "executeAt": time.time() + mine.uniform(0, 2)}, [Expected(code, {(1, 0)})]
    if kind == "batch":
        tasks = [{"shell": line(trace, nap, f"exit {n}"), "entity": f"entity-{mine.randrange(3)}"} for n in range(3)]
        return "/v1/batches", {"tasks": tasks}, [Expected(n, {(1, 0)}) for n in range(3)]
    return "/v1/tasks", plain, [Expected(code, {(1, 0)})]


#: requests with tasks that follow upon a kill: as many on a fast machine as on a slow one
REQUESTS = 8


class Load:
    """Clients that submit tasks until told to stop, whatever happens to the daemon; one pauses and resumes them."""

    def __init__(self, daemon: Daemon, trace: Path, seed: int) -> None:
        self.daemon = daemon
        self.trace = trace
        self.accepted: dict[str, Expected] = {}
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._left = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, args=(self._random.random(),)) for _ in range(3)]
        self._threads.append(threading.Thread(target=self._meddle, args=(self._random.random(),)))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def go_on(self) -> None:
        self._left.release(REQUESTS)

    def stop(self) -> None:
        self._stop.set()
        self._left.release(len(self._threads))
        for thread in self._threads:
            thread.join()

    def _run(self, seed: float) -> None:
        mine = random.Random(seed)
        while self._left.acquire() and not self._stop.is_set():
            path, body, expected = some_work(mine, self.trace)
            made = self._submit(path, body, uuid.uuid4().hex)
            if made is not None:
                self.accepted |= dict(zip(made, expected, strict=True))
            self._stop.wait(0.1)

    def _submit(self, path: str, body: dict, key: str) -> list[str] | None:
        """Submit until there is an answer; the key makes that safe."""
        while True:
            status, said = self._post(path, body, {"Idempotency-Key": key})
            if status in (200, 201):
                answer = json.loads(said)
                return answer.get("tasks") or [answer["taskId"]]
            if self._stop.wait(0.05):
                return None

    def _post(self, path: str, body: dict, more: dict[str, str]) -> tuple[int | None, bytes]:
        """The status of the answer, None if there was none, and what it says. By the simplest client there is: that of
        the tests costs more than a small task."""
        headers = {"Authorization": f"Bearer {self.daemon.token}", "Content-Type": "application/json", **more}
        connection = http.client.HTTPConnection(self.daemon.url.removeprefix("http://"), timeout=5)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return None, b""
        finally:
            connection.close()

    def _meddle(self, seed: float) -> None:
        mine = random.Random(seed)
        while not self._stop.wait(0.2):
            known = sorted(self.accepted)  # they become more at any moment
            for task_id in mine.sample(known, min(3, len(known))):
                self._post(f"/v1/tasks/{task_id}/{mine.choice(['pause', 'resume'])}", {}, {})


class Killer:
    """Kills one thing a cycle, chosen at random."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)
        self.killed_runners: set[str] = set()

    def strike(self) -> None:
        victim = self.random.choice(["daemon", "daemon", "launcher", "runner", "daemon and runner"])
        if victim == "launcher":
            pid = self.daemon.launcher_pid
            seen = process.look(pid) if pid else None
            if seen:
                process.send(seen, signal.SIGKILL)
        if "runner" in victim:
            self._kill_runners(self.random.randrange(1, 4))
        if "daemon" in victim:
            self.daemon.restart()

    def _kill_runners(self, count: int) -> None:
        ids = [path.name for path in (self.daemon.state_dir / "tasks").iterdir() if path.name[0] != "."]
        self.random.shuffle(ids)
        for task_id in ids:
            directory = self.daemon.state_dir / "tasks" / task_id
            attempt = 2 if (directory / "attempts/2").exists() else 1
            probe = lock.probe(self.daemon.state.tasks.attempt(task_id, attempt))
            if count and probe.held and probe.runner and (seen := process.look(probe.runner.pid)):
                self.killed_runners.add(task_id)
                process.send(seen, signal.SIGKILL)
                count -= 1


def all_tasks(daemon: Daemon) -> dict[str, dict]:
    found: dict[str, dict] = {}
    path = "/v1/tasks?limit=500"
    while path:
        response = daemon.http.get(path)
        assert response.status_code == 200
        found |= {task["taskId"]: task for task in response.json()}
        path = response.links.get("next", {}).get("url", "")
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("executed_launchers")
def test_nothing_is_lost_doubled_or_guessed(make_daemon, tmp_path, request):
    cycles = request.config.getoption("--crash-cycles")
    seed = request.config.getoption("--crash-seed")
    print(f"crash suite: {cycles} cycles, seed {seed}")
    daemon, trace = make_daemon().start(), tmp_path / "trace"
    load, killer = Load(daemon, trace, seed), Killer(daemon, seed)
    said: dict[str, tuple] = {}
    load.start()
    try:
        for _ in range(cycles):
            load.go_on()
            threading.Event().wait(killer.random.uniform(0, 0.4))
            killer.strike()
            accepted = dict(load.accepted)
            check_cycle(all_tasks(daemon), accepted, said)
    finally:
        load.stop()
    # one that its client has given up waiting for may be accepted meanwhile
    while going_on := not_over(tasks := all_tasks(daemon)):
        for task_id in going_on:
            wait_for(lambda task_id=task_id: is_over_or_resumed(daemon, task_id), f"{task_id} is over")
    check_cycle(tasks, load.accepted, said)
    check_endings(tasks, load.accepted, killer.killed_runners, trace)
    check_entities(tasks, trace)
    assert all(daemon.alive(task_id) == [] for task_id in killer.killed_runners)
    print(Counter(task["outcome"] for task in tasks.values()))


def not_over(tasks: dict[str, dict]) -> list[str]:
    return [task_id for task_id, task in tasks.items() if task["outcome"] is None]


def is_over_or_resumed(daemon: Daemon, task_id: str) -> bool:
    """Whether a task is over; a pause, also one that came late, is taken back."""
    task = daemon.task(task_id, wait=1)
    if task["state"] == "paused":
        daemon.post(f"/v1/tasks/{task_id}/resume")
    return task["outcome"] is not None


def check_cycle(tasks: dict[str, dict], accepted: dict[str, Expected], said: dict[str, tuple]) -> None:
    """Every accepted task is accounted for, and no ending has changed."""
    assert set(accepted) <= set(tasks)
    for task_id, task in tasks.items():
        if task["outcome"] is not None:
            ending = (task["state"], task["outcome"], task["exitCode"], task["signal"], task["finishedAt"], task["attempt"])
            assert said.setdefault(task_id, ending) == ending


def check_endings(tasks: dict[str, dict], accepted: dict[str, Expected], killed: set[str], trace: Path) -> None:
    runs = traced_runs(trace)
    for task_id, task in tasks.items():
        for run, (started, _ended) in runs[task_id].items():
            assert started == 1, f"{task_id}: (attempt, action) {run} was started {started} times"
        if task["outcome"] == "lost":
            assert task_id in killed, task["error"]
            assert task["error"]
            continue
        assert all(ended == 1 for _started, ended in runs[task_id].values()), task
        if task_id in accepted:
            expected = accepted[task_id]
            assert set(runs[task_id]) == expected.runs, task
            assert task["exitCode"] == expected.exit_code
            assert task["outcome"] == ("failed" if expected.exit_code else "succeeded")


def traced_runs(trace: Path) -> dict[str, dict[tuple[int, int], tuple[int, int]]]:
    """How often each action of each attempt of each task has started and ended."""
    counts = Counter(trace.read_text().splitlines())
    runs: dict[str, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)
    for each in counts:
        what, task_id, attempt, action = each.split()
        if what == "start":
            runs[task_id][int(attempt), int(action)] = (counts[each], counts[each.replace("start", "end", 1)])
    return runs


def check_entities(tasks: dict[str, dict], trace: Path) -> None:
    """Never two tasks of an entity at once; each trace is a row of whole runs, in the order of acceptance."""
    entity_of = {task_id: task["entity"] for task_id, task in tasks.items() if task["entity"]}
    order = {task_id: number for number, task_id in enumerate(tasks)}
    running: dict[str, str] = {}
    last: dict[str, str] = {}
    for each in trace.read_text().splitlines():
        what, task_id, *_run = each.split()
        entity = entity_of.get(task_id)
        if entity is None:
            continue
        if what == "end":
            assert running.pop(entity) == task_id
            continue
        before = running.get(entity)
        assert before is None or tasks[before]["outcome"] == "lost", f"{task_id} began while {before} ran ({entity})"
        assert entity not in last or order[last[entity]] < order[task_id], f"{task_id} came before its turn"
        running[entity] = last[entity] = task_id

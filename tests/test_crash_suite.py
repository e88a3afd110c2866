"""SIGKILL of daemon, launcher or runners at random moments, under load, again and again (promises 1 to 5).

`pytest tests/test_crash_suite.py --crash-cycles 1000 --crash-seed 7` runs longer, or repeats a run.

Every command leaves a trace outside the store when it starts and when it ends. After every cycle: each accepted
task is there; what was said of an ending before is still said. At the end: none was started twice, and every ending
is what the command really did, or `lost` with evidence, and lost only if a runner was killed.
"""

from __future__ import annotations

import random
import signal
import threading
import uuid
from collections import Counter
from pathlib import Path

import httpx
from conftest import Daemon, wait_for

from task_runner.lib import lock, process


class Load:
    """Clients that submit tasks until told to stop, whatever happens to the daemon."""

    def __init__(self, daemon: Daemon, trace: Path, seed: int) -> None:
        self.daemon = daemon
        self.trace = trace
        self.accepted: dict[str, int] = {}  # task id: the exit code that its command really has
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(self._random.random(),)) for _ in range(3)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: float) -> None:
        mine = random.Random(seed)
        while not self._stop.is_set():
            code = mine.randrange(5)
            nap = mine.choice(["0", "0", "0.02", "0.3", "2"])
            line = f"echo start $TASK_RUNNER_TASK_ID >> {self.trace}; sleep {nap}; "
            line += f"echo end $TASK_RUNNER_TASK_ID >> {self.trace}; exit {code}"
            task_id = self._submit({"shell": line}, uuid.uuid4().hex)
            if task_id is not None:
                self.accepted[task_id] = code
            self._stop.wait(0.03)

    def _submit(self, body: dict, key: str) -> str | None:
        """Submit until there is an answer; the key makes that safe."""
        headers = {"Authorization": f"Bearer {self.daemon.token}", "Idempotency-Key": key}
        while True:
            try:
                response = httpx.post(f"{self.daemon.url}/v1/tasks", json=body, headers=headers, timeout=5)
                if response.status_code in (200, 201):
                    return str(response.json()["taskId"])
            except httpx.HTTPError:
                pass
            if self._stop.wait(0.05):
                return None


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
            probe = lock.probe(self.daemon.state.tasks.attempt(task_id, 1))
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
            threading.Event().wait(killer.random.uniform(0, 0.4))
            killer.strike()
            accepted = dict(load.accepted)
            check_cycle(all_tasks(daemon), accepted, said)
    finally:
        load.stop()
    wait_for(lambda: all(task["outcome"] for task in all_tasks(daemon).values()), "every task is over")
    tasks = all_tasks(daemon)
    check_cycle(tasks, load.accepted, said)
    check_endings(tasks, load.accepted, killer.killed_runners, trace)
    assert all(daemon.alive(task_id) == [] for task_id in killer.killed_runners)
    print(Counter(task["outcome"] for task in tasks.values()))


def check_cycle(tasks: dict[str, dict], accepted: dict[str, int], said: dict[str, tuple]) -> None:
    """Every accepted task is accounted for, and no ending has changed."""
    assert set(accepted) <= set(tasks)
    for task_id, task in tasks.items():
        if task["outcome"] is not None:
            ending = (task["state"], task["outcome"], task["exitCode"], task["signal"], task["finishedAt"])
            assert said.setdefault(task_id, ending) == ending


def check_endings(tasks: dict[str, dict], accepted: dict[str, int], killed: set[str], trace: Path) -> None:
    lines = Counter(trace.read_text().splitlines())
    for task_id, task in tasks.items():
        started, ended = lines[f"start {task_id}"], lines[f"end {task_id}"]
        assert started <= 1, f"{task_id} was started {started} times"
        if task["outcome"] == "lost":
            assert task_id in killed, task["error"]
            assert task["error"]
            continue
        assert (started, ended) == (1, 1), task
        if task_id in accepted:
            assert task["exitCode"] == accepted[task_id]
            assert task["outcome"] == ("failed" if accepted[task_id] else "succeeded")

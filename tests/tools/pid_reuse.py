"""In a pid namespace of its own: give the pid of a dead runner to somebody else, and see what is made of it.

    unshare --pid --fork --mount-proc --kill-child python pid_reuse.py CASE DIRECTORY

This process is pid 1 there, so it can choose the next pid, and everything ends with it. It prints "fine" at the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import Daemon, wait_for

from task_runner.environment.base import Sighting
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.lib import lock, process, statusfile
from task_runner.lib.process import Process
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import write_control
from task_runner.model.codec import to_json
from task_runner.model.state import State
from task_runner.model.status import Heartbeat, Identity, Status
from task_runner.service.classify import Vanished, classify

TASK = "0123456789abcdef"


def start_victim(pid: int, old: Process) -> subprocess.Popen[bytes]:
    """A process of somebody else that has this very pid, and began later."""
    wait_for(lambda: later_than(old), "a clock tick has passed")

    def start() -> subprocess.Popen[bytes] | None:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        victim = subprocess.Popen(["sleep", "300"])
        if victim.pid == pid:
            return victim
        victim.kill()
        victim.wait()
        return None

    victim: subprocess.Popen[bytes] = wait_for(start, f"somebody got pid {pid}")
    wait_for(lambda: (seen := process.look(pid)) and seen.command == "sleep" and seen.state == "S", "it sleeps")
    return victim


def later_than(old: Process) -> bool:
    now = subprocess.run(["cat", "/proc/self/stat"], stdout=subprocess.PIPE, check=True).stdout
    return int(now.rpartition(b")")[2].split()[19]) > old.start_time


def dead(work: Callable[[], None]) -> tuple[Identity, Process]:
    """A process that has done some work and was killed: its identity, and how it was seen in life."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(tell, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    identity, seen = process.identify(pid), process.look(pid)
    assert seen is not None and process.is_alive(identity)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return identity, seen


def unharmed(victim: subprocess.Popen[bytes]) -> bool:
    """Nobody has signalled it: it was neither ended nor stopped."""
    seen = process.look(victim.pid)
    return victim.poll() is None and seen is not None and seen.command == "sleep" and seen.state == "S"


def case_processes(_directory: str) -> None:
    """lib.process believes nobody by pid."""
    identity, seen = dead(lambda: None)
    victim = start_victim(identity.pid, seen)
    assert not process.is_alive(identity)
    assert process.open_pidfd(identity) is None
    for number in (signal.SIGSTOP, signal.SIGKILL):
        assert not process.send(seen, number)
    assert unharmed(victim)
    assert process.is_alive(process.identify(victim.pid))


def case_environment(directory: str) -> None:
    """The environment neither believes the runner alive nor signals whoever has its pid now."""
    state = StateDirectory(directory)
    state.create()
    attempt = state.tasks.attempt(TASK, 1)
    attempt.create()

    def run() -> None:
        me = process.identify(os.getpid())
        held = lock.claim(attempt, me, 1.0, 1.0)
        heartbeat = Heartbeat(at="2026-01-01T00:00:00.000000Z", monotonic=1.0)
        status = Status(task_id=TASK, runner=me, state=State.RUNNING, heartbeat=heartbeat)
        statusfile.StatusWriter(attempt, []).write(status)
        held.beat(2.0, 2.0)

    identity, seen = dead(run)
    victim = start_victim(identity.pid, seen)
    environment = MultiprocessEnvironment(state)

    async def examine() -> None:
        for spoil in (leave, garble, remove):
            spoil(attempt.lock)
            sighting: Sighting = environment.look(TASK, 1)
            assert sighting.runner == identity, spoil
            assert not sighting.alive and sighting.claimed, spoil
            assert isinstance(classify(TASK, 1, State.RUNNING, sighting), Vanished)
            assert not environment.stop(TASK, 1, None, 0.0)
            assert not environment.abandon(TASK, 1)
            assert not environment.pause(TASK, 1)
            assert not environment.signal(TASK, 1, signal.SIGKILL)
        assert environment.clear(TASK) is None

    asyncio.run(examine())
    assert unharmed(victim)


def leave(_path: str) -> None:
    """The lock is as the runner left it."""


def garble(path: str) -> None:
    write_control(path, b"garbage")


def remove(path: str) -> None:
    os.unlink(path)


def case_held_by_another(directory: str) -> None:
    """A lock that is held, but names a runner that is dead: whoever has its pid is not signalled."""
    state = StateDirectory(directory)
    state.create()
    attempt = state.tasks.attempt(TASK, 1)
    attempt.create()
    identity, seen = dead(lambda: None)
    held = lock.claim(attempt, identity, 1.0, 1.0)
    victim = start_victim(identity.pid, seen)
    environment = MultiprocessEnvironment(state)
    for request in (environment.pause, environment.resume, environment.abandon):
        assert not request(TASK, 1)
    assert unharmed(victim)
    assert to_json(lock.probe(attempt).runner) == to_json(identity)
    os.close(held.fd)


def case_daemon(directory: str) -> None:
    """A whole daemon comes back to find the pid of a runner, and of a command, in other hands."""
    daemon = Daemon(Path(directory)).start()
    try:
        task_id = daemon.submit("sleep", "301")
        command = daemon.wait_state(task_id, "running")["actions"][0]["process"]["pid"]
        runner = daemon.runner_pid(task_id)
        old = {pid: process.look(pid) for pid in (runner, command)}
        daemon.kill()
        for pid in (runner, command):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: reaped(pid), "it is gone")
        victims = [start_victim(pid, seen) for pid, seen in old.items() if seen is not None]
        daemon.restart()
        task = daemon.wait(task_id)
        assert (task["state"], task["exitCode"], task["receipt"]) == ("lost", None, None), task
        assert f"runner (pid {runner}) ended without saying how" in task["error"]
        for path in ("stop", "signal"):
            daemon.post(f"/v1/tasks/{task_id}/{path}", {"signal": "SIGKILL"})
        daemon.http.delete(f"/v1/tasks/{task_id}")
        assert all(unharmed(victim) for victim in victims)
    finally:
        daemon.close()


def reaped(pid: int) -> bool:
    """Orphans come to pid 1, which is this process."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return process.look(pid) is None


if __name__ == "__main__":
    assert os.getpid() == 1
    globals()[f"case_{sys.argv[1]}"](sys.argv[2])
    print("fine")

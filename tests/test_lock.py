"""The lock file: of all who want an attempt one wins, and it is seen locked from the moment it exists (promise 2)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE, wait_for

from task_runner.lib import lock, process
from task_runner.lib.taskdir import AttemptDirectory

FORK = multiprocessing.get_context("fork")


def made(path: Path, name: str = "task") -> AttemptDirectory:
    directory = AttemptDirectory(str(path / name), 1)
    directory.create()
    return directory


def claim(directory: AttemptDirectory) -> lock.HeldLock:
    return lock.claim(directory, process.identify(os.getpid()), 1_800_000_000.0, 12.5)


def race(directory: AttemptDirectory, contestants: list[Callable[[AttemptDirectory], bool]]) -> list[bool]:
    """Let processes try at the same moment; returns who won."""
    start, results = FORK.Event(), FORK.SimpleQueue()
    finish = FORK.Event()

    def run(index: int, contestant: Callable[[AttemptDirectory], bool]) -> None:
        start.wait(PATIENCE)
        results.put((index, contestant(directory)))
        finish.wait(PATIENCE)  # a winner holds its lock until all have tried

    runners = [FORK.Process(target=run, args=item) for item in enumerate(contestants)]
    for runner in runners:
        runner.start()
    start.set()
    found = dict(results.get() for _ in runners)
    finish.set()
    for runner in runners:
        runner.join(PATIENCE)
    return [found[index] for index in range(len(runners))]


def try_claim(directory: AttemptDirectory) -> bool:
    try:
        globals()["_held"] = claim(directory)
    except lock.AlreadyClaimed:
        return False
    return True


@pytest.mark.parametrize("attempt", range(10))
def test_of_many_runners_one_wins(tmp_path, attempt):
    assert race(made(tmp_path), [try_claim] * 6).count(True) == 1


@pytest.mark.parametrize("attempt", range(10))
def test_of_runners_and_a_recovering_daemon_one_side_wins(tmp_path, attempt):
    *claims, voided = race(made(tmp_path), [try_claim, try_claim, try_claim, lock.void])
    assert claims.count(True) + voided == 1


def test_a_claim_is_locked_and_complete_whenever_it_is_seen(tmp_path):
    seen = FORK.Event()

    def claim_many() -> None:
        held = [claim(made(tmp_path, str(number))) for number in range(300)]
        seen.wait(PATIENCE)
        del held

    runner = FORK.Process(target=claim_many)
    runner.start()
    try:
        for number in range(300):
            directory = AttemptDirectory(str(tmp_path / str(number)), 1)
            probe = wait_for(lambda d=directory: (p := lock.probe(d)).claimed and p)
            assert (probe.held, probe.damage) == (True, None)
            assert probe.runner.pid == runner.pid
            assert probe.heartbeat is not None
    finally:
        seen.set()
        runner.join(PATIENCE)


def test_a_void_attempt_cannot_be_claimed_and_can_be_voided_again(tmp_path):
    directory = made(tmp_path)
    assert lock.void(directory)
    assert lock.void(directory)
    with pytest.raises(lock.AlreadyClaimed):
        claim(directory)
    probe = lock.probe(directory)
    assert (probe.claimed, probe.held, probe.void) == (True, False, True)


def test_a_claimed_attempt_cannot_be_voided_whether_its_runner_lives_or_not(tmp_path):
    directory = made(tmp_path)
    held = claim(directory)
    assert not lock.void(directory)
    held.close()
    assert not lock.probe(directory).held
    assert not lock.void(directory)


def test_the_lock_is_not_inherited_by_commands(tmp_path):
    directory = made(tmp_path)
    held = claim(directory)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        held.close()
        # the spawn returns a moment before the kernel closes what is not for the command
        wait_for(lambda: not lock.probe(directory).held, "nobody holds the lock any more")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_the_pulse_is_rewritten_in_place(tmp_path):
    directory = made(tmp_path)
    held = claim(directory)
    size = os.path.getsize(directory.lock)
    held.beat(1_800_000_010.0, 22.5)
    assert os.path.getsize(directory.lock) == size
    assert lock.probe(directory).heartbeat.monotonic == 22.5
    assert [path.name for path in Path(directory.path).iterdir() if path.is_file()] == ["lock"]

"""A whole tree of processes: signalled, stopped, continued, killed.

Without a cgroup a tree can only be scanned, and it changes while it is scanned. So every operation here is
repeated by its caller until a scan finds nothing more to do. Freezing comes before killing: a stopped process
cannot fork, so a fork storm is caught process by process instead of being chased.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from task_runner.lib import process
from task_runner.lib.process import Process

_NOBODY: frozenset[int] = frozenset()


def below(*roots: int, spared: AbstractSet[int] = _NOBODY) -> list[Process]:
    """Everything below ``roots``, parents first, but those whose pids are ``spared``: own children, not waited for."""
    found = process.descendants(*roots)
    return [each for each in found if each.pid not in spared] if spared else found


def signal_all(processes: Iterable[Process], number: int) -> list[Process]:
    """Send one signal to each; returns those it reached."""
    return [each for each in processes if each.alive and process.send(each, number)]


def freeze(*roots: int, spared: AbstractSet[int] = _NOBODY, rounds: int = 100) -> list[Process]:
    """SIGSTOP everything below ``roots``, until a scan finds nobody who still runs; returns who was stopped."""
    stopped: dict[tuple[int, int], Process] = {}
    for _ in range(rounds):
        fresh = [
            each
            for each in below(*roots, spared=spared)
            if each.alive and (each.pid, each.start_time) not in stopped and each.state not in "Tt"
        ]
        if not fresh:
            break
        for each in signal_all(fresh, signal.SIGSTOP):
            stopped[each.pid, each.start_time] = each
    return list(stopped.values())


def thaw(root: int, *, spared: AbstractSet[int] = _NOBODY) -> None:
    """SIGCONT everything below ``root``."""
    signal_all(below(root, spared=spared), signal.SIGCONT)


def kill(root: int, *, spared: AbstractSet[int] = _NOBODY) -> list[Process]:
    """SIGKILL everything below ``root`` that a scan finds; returns those it reached."""
    freeze(root, spared=spared, rounds=20)
    return signal_all(below(root, spared=spared), signal.SIGKILL)


def kill_marked(task_id: str) -> list[Process]:
    """SIGKILL everything that carries the mark of a task, and all below; returns those it reached.

    Each is stopped the moment it is seen: by the end of the scan, one that forks and exits would be somebody else.
    """
    caught = [each for each in process.find_marked(task_id) if process.send(each, signal.SIGSTOP)]
    roots = [each.pid for each in caught]
    freeze(*roots, rounds=20)
    children = process.descendants(*roots) if roots else []
    everyone = {(each.pid, each.start_time): each for each in (*caught, *children)}
    return signal_all(everyone.values(), signal.SIGKILL)

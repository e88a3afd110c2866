"""What /proc tells of a process beyond its identity: what it runs, what it waits for, what it has used."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass

from task_runner.kernel.cgroupfiles import read
from task_runner.lib import process
from task_runner.lib.process import Process

#: characters of a command line
MOST_COMMAND = 16_384

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True, slots=True)
class Portrait:
    """A process at one moment."""

    pid: int
    ppid: int
    #: the kernel's short name for it
    name: str
    #: program and arguments, at most MOST_COMMAND characters; the name in brackets where it has none (a zombie)
    command: str
    #: R, S, D, T, Z …
    state: str
    #: the function of the kernel in which it waits; none: it does not, or the kernel does not say
    wait_channel: str | None = None
    #: processor time, that of children it waited for not counted
    cpu_seconds: float = 0.0
    rss_bytes: int | None = None
    #: since its start, time in which the machine was suspended included
    age_seconds: float = 0.0
    #: how many files it may have open
    open_files_limit: int | None = None
    #: it is frozen with its cgroup, whatever its state letter says: the kernel calls that waiting
    frozen: bool = False


def portray(processes: Iterable[Process], frozen: Container[int] = ()) -> list[Portrait]:
    """Portraits of those that are still there. All that is said of one is of the same process."""
    return [found for each in processes if (found := _portray(each, each.pid in frozen)) is not None]


def _portray(seen: Process, frozen: bool) -> Portrait | None:
    proc = f"/proc/{seen.pid}"
    arguments = read(f"{proc}/cmdline")[:MOST_COMMAND].rstrip("\0").replace("\0", " ")
    channel = read(f"{proc}/wchan").strip("\0\n ")
    memory = read(f"{proc}/statm").split()
    limits = read(f"{proc}/limits")
    now = process.look(seen.pid)
    if now is None or now.start_time != seen.start_time:
        return None  # it has ended, and what was read may be of somebody else
    return Portrait(
        pid=now.pid,
        ppid=now.ppid,
        name=now.command,
        command=arguments or f"[{now.command}]",
        state=now.state,
        wait_channel=channel if channel not in ("", "0") else None,
        cpu_seconds=now.ticks / _TICKS,
        rss_bytes=int(memory[1]) * _PAGE if len(memory) > 1 and now.alive else None,
        age_seconds=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - now.start_time / _TICKS),
        open_files_limit=_open_files(limits),
        frozen=frozen,
    )


def _open_files(limits: str) -> int | None:
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None

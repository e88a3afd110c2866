"""Marks: NAME=VALUE in the environment of a process, by which it is found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

#: bytes of a file of /proc that are read
LONGEST = 4 << 20
#: of what a container's processes do not share with those of another
_KINDS = ("user", "mnt", "pid", "net", "ipc", "uts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Carrier:
    """A process with a mark."""

    pid: int
    ppid: int
    #: clock ticks since boot
    start_time: int


def carriers(mark: str, besides: str) -> Iterator[Carrier]:
    """The live processes with a mark, but those with the variable ``besides``."""
    wanted, unwanted = os.fsencode(mark), f"{besides}=".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = read(f"/proc/{name}/environ").split(b"\0")
            if wanted in words and not any(word.startswith(unwanted) for word in words):
                fields = read(f"/proc/{name}/stat").rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    yield Carrier(pid=int(name), ppid=int(fields[1]), start_time=int(fields[19]))
        except (OSError, ValueError, IndexError):
            continue  # it has ended


def first_of_each(found: list[Carrier]) -> list[int]:
    """Of those whose parents are not among them, the first that was started in each container, by pid.

    What is started in a container later (`kubectl exec`) has its environment and a parent elsewhere.
    """
    pids = {each.pid for each in found}
    first: dict[tuple[int | str, ...], Carrier] = {}
    for each in found:
        if each.ppid in pids:
            continue
        place = _place(each.pid)
        if place not in first or (each.start_time, each.pid) < (first[place].start_time, first[place].pid):
            first[place] = each
    return sorted(each.pid for each in first.values())


def _place(pid: int) -> tuple[int | str, ...]:
    """What it shares with the others of its container, and with nobody else; by itself, if that cannot be seen."""
    try:
        root = os.stat(f"/proc/{pid}/root")
        return (root.st_dev, root.st_ino, *(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in _KINDS))
    except OSError:
        return (pid,)


def read(path: str) -> bytes:
    """A file of /proc, which says no size. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        data = b""
        while len(data) < LONGEST and (piece := file.read(1 << 16)):
            data += piece
    return data

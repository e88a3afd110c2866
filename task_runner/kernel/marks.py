"""Marks: NAME=VALUE in the environment of a process, by which it is found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: bytes of a file of /proc that are read
LONGEST = 4 << 20
#: seconds between looks at who is in the middle of an exec: about one in all
_PAUSES = tuple(0.001 * 2**n for n in range(10))
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
    for pid, words in environments((int(name), int(name)) for name in os.listdir("/proc") if name.isdigit()):
        if wanted not in words or any(word.startswith(unwanted) for word in words):
            continue
        try:
            fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                yield Carrier(pid=pid, ppid=int(fields[1]), start_time=int(fields[19]))
        except (OSError, ValueError, IndexError):
            continue  # it has ended


def environments(processes: Iterable[tuple[int, T]]) -> Iterator[tuple[T, list[bytes]]]:
    """NAME=VALUE of processes, each as soon as it is known; nothing of those that have ended or that nobody may see.

    ``processes``: pid, and what stands for it in the answer. Who is in the middle of an exec, where it has none yet, is
    looked at again: on a busy machine that may take long, and it would slip through a search for what is to be ended.
    """
    for pause in (0.0, *_PAUSES):
        if pause:
            time.sleep(pause)
        unknown = []
        for pid, known in processes:
            try:
                words = _environment(pid)
            except OSError:
                continue
            if words is None:
                unknown.append((pid, known))
            else:
                yield known, words
        if not unknown:
            return
        processes = unknown


def _environment(pid: int) -> list[bytes] | None:
    """None while that is not known. Raises OSError."""
    path = f"/proc/{pid}/environ"
    words = read(path)
    if not words:
        if in_exec(read(f"/proc/{pid}/stat")):
            return None
        words = read(path)  # an exec may have ended between the two
    return words.split(b"\0")


def in_exec(stat: bytes) -> bool:
    """Whether a process is where it has its new memory, and neither arguments nor an environment in it.

    proc(5), /proc/PID/stat: field 23 is the memory's size, 0 of a kernel's thread and of a zombie; field 51 is the
    address where the environment ends, above 0 for an empty one too (fs/binfmt_elf.c, create_elf_tables).
    """
    fields = stat.rpartition(b")")[2].split()
    return len(fields) > 48 and fields[20] != b"0" and fields[48] == b"0"


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
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while len(data) < LONGEST and (piece := os.read(fd, 1 << 16)):
            data += piece
    finally:
        os.close(fd)
    return data

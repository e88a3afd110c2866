"""Files of control groups and of /proc: small, made by the kernel, and not all there on every host."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where one controller of a group is."""

    #: of cgroups: 1 or 2
    version: int
    directory: str

    @property
    def words(self) -> str:
        return f"cgroup v{self.version}"


def look(path: str) -> str | None:
    """What is in it; None where it is not there, or the group has just been removed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    pieces = []
    try:
        while piece := os.read(fd, 1 << 16):  # of mountinfo the kernel gives a page at a time
            pieces.append(piece)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(pieces).decode(errors="replace")


def read(path: str) -> str:
    """What is in it; nothing, where it is not there."""
    return look(path) or ""


def put(path: str, value: str) -> None:
    """Raises OSError, which names the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def write(path: str, value: str) -> bool:
    """False where it is not there, or does not take that."""
    try:
        put(path, value)
    except OSError:
        return False
    return True


def pids(path: str) -> list[int]:
    """Pids, however many; 0 would be somebody whom our pid namespace does not show."""
    return [pid for pid in map(int, read(path).split()) if pid]


def members(directory: str) -> list[int]:
    """Pids of a group and of all below it."""
    found = pids(f"{directory}/cgroup.procs")
    try:
        leaf = os.stat(directory).st_nlink == 2  # what the kernel says of one that has none below it
    except OSError:
        return found
    if not leaf:
        for below, directories, _files in os.walk(directory):
            found += [pid for each in directories for pid in pids(f"{below}/{each}/cgroup.procs")]
    return found


def number(path: str) -> int | None:
    """One number; None where there is none."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None


def table(path: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = [line.split() for line in read(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}

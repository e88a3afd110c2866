"""What the machine uses now.

proc(5): /proc/stat (clock ticks), /proc/meminfo (KiB).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from task_runner.kernel.cgroupfiles import read

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineUse:
    """Of the whole machine, whoever uses it."""

    cpus: int
    #: of all processors together since the machine's start, not idle and not waiting for a disk
    cpu_seconds: float | None
    memory_bytes: int | None
    #: what new processes could have without anything being swapped out
    available_bytes: int | None


def machine() -> MachineUse:
    """What the machine uses. What the kernel does not say is None."""
    known = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines() if ":" in line)
    return MachineUse(
        cpus=os.cpu_count() or 1,
        cpu_seconds=_busy(read("/proc/stat")),
        memory_bytes=_bytes(known.get("MemTotal")),
        available_bytes=_bytes(known.get("MemAvailable")),
    )


def _busy(text: str) -> float | None:
    """user + nice + system + irq + softirq + steal of the first line; guests are part of user already."""
    words = text.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _bytes(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024

"""What the kernel counts for a whole group of processes. What it does not count is None."""

from __future__ import annotations

import os
from collections.abc import Callable

from task_runner.kernel.cgroupfiles import Place, look, number, table
from task_runner.model.status import Accounting

#: where a controller of the group is, by its name in v2; None: nowhere
Where = Callable[[str], Place | None]


def oom_kills(memory: Place | None) -> int | None:
    """Processes that the kernel has killed because there was no memory."""
    if memory is None:
        return None
    name = "memory.events" if memory.version == 2 else "memory.oom_control"
    return table(f"{memory.directory}/{name}").get("oom_kill")


def account(v2: str | None, cpuacct: str | None, where: Where) -> Accounting:
    """All of it. ``v2``: the group there, which has counted processor time even without controllers."""
    cpu_seconds, throttled_count, throttled_seconds = _processors(v2, cpuacct, where("cpu"))
    memory, pids = where("memory"), where("pids")
    read_bytes, written_bytes = _disks(where("io"))
    versions = {place.version for each in ("cpu", "memory", "pids", "io") if (place := where(each)) is not None}
    if v2 is not None:
        versions.add(2)
    return Accounting(
        by=" and ".join(f"cgroup v{version}" for version in sorted(versions, reverse=True)),
        cpu_seconds=cpu_seconds,
        memory_peak_bytes=_memory_peak(memory),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        throttled_count=throttled_count,
        throttled_seconds=throttled_seconds,
        pids_peak=None if pids is None else number(f"{pids.directory}/pids.peak"),
        pids_refused=None if pids is None else table(f"{pids.directory}/pids.events").get("max"),
        oom_kills=oom_kills(memory),
    )


def cpu_seconds(v2: str | None, cpuacct: str | None) -> float | None:
    """Processor time alone: of what has ended, too, whoever has waited for it. Cheap: it is asked of thousands."""
    if v2 is not None and (seconds := _scaled(_first_number(f"{v2}/cpu.stat", b"usage_usec "), 1e6)) is not None:
        return seconds
    return None if cpuacct is None else _scaled(number(f"{cpuacct}/cpuacct.usage"), 1e9)


def _first_number(path: str, name: bytes) -> int | None:
    """What a file of names and numbers begins with, if that is the one that is meant."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(fd, 64).partition(b"\n")[0]
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(line[len(name) :]) if line.startswith(name) else None


def _processors(
    v2: str | None, cpuacct: str | None, place: Place | None
) -> tuple[float | None, int | None, float | None]:
    """Seconds used; periods in which it was held back, and seconds."""
    used = table(f"{v2}/cpu.stat") if v2 is not None else {}
    seconds = _scaled(used.get("usage_usec"), 1e6)
    if seconds is None and cpuacct is not None:
        seconds = _scaled(number(f"{cpuacct}/cpuacct.usage"), 1e9)
    if place is None:
        return seconds, None, None
    if place.version == 2:
        return seconds, used.get("nr_throttled"), _scaled(used.get("throttled_usec"), 1e6)
    held = table(f"{place.directory}/cpu.stat")
    return seconds, held.get("nr_throttled"), _scaled(held.get("throttled_time"), 1e9)


def _memory_peak(place: Place | None) -> int | None:
    if place is None:
        return None
    return number(f"{place.directory}/{'memory.peak' if place.version == 2 else 'memory.max_usage_in_bytes'}")


def _disks(place: Place | None) -> tuple[int | None, int | None]:
    """Bytes read from all disks and written to them."""
    if place is None:
        return None, None
    name = "io.stat" if place.version == 2 else "blkio.throttle.io_service_bytes_recursive"
    if (counted := look(f"{place.directory}/{name}")) is None:
        return None, None
    if place.version == 2:
        pairs = [word.split("=") for word in counted.split() if "=" in word]
        kinds = ("rbytes", "wbytes")
    else:
        lines = [line.split() for line in counted.splitlines()]
        pairs = [line[1:] for line in lines if len(line) == 3]
        kinds = ("Read", "Write")
    read_bytes, written_bytes = (sum(int(count) for name, count in pairs if name == kind) for kind in kinds)
    return read_bytes, written_bytes


def _scaled(count: int | None, by: float) -> float | None:
    return None if count is None else round(count / by, 6)

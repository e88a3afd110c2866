"""What this machine has for tasks: detected, or set in the configuration.

It is counted, not enforced: what tasks ask for in sum never exceeds it. What cannot be found out is not there, and
never an error: a machine without a driver has no graphics processors.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from task_runner.errors import FieldError
from task_runner.kernel.cgroupfiles import read
from task_runner.model.spec import Spec
from task_runner.service.schedule import CPU, CPUS, GPUS, MEMORY, POOL, SLOT, Room, misfits, needs_of
from task_runner.service.settings import Settings

log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_FIELDS = {CPUS: "resources.cpus", MEMORY: "resources.memoryMb", GPUS: "resources.gpus"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What there is."""

    cpus: float
    memory_mb: float
    #: graphics processors, by index
    gpus: tuple[int, ...] = ()
    #: places of each pool
    pools: Mapping[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, float]:
        """By the kinds of service/schedule.py, all but places to run."""
        pools = {POOL + name: places for name, places in self.pools.items()}
        return {CPUS: self.cpus * CPU, MEMORY: self.memory_mb, GPUS: len(self.gpus), **pools}


def misfits_of(spec: Spec, capacity: Capacity) -> list[FieldError]:
    """What a task could not have if nothing else ran."""
    faults = []
    total = {SLOT: 1.0, **capacity.totals()}
    for kind, words in misfits(needs_of(spec.resources, spec.pools), total):
        if kind in _FIELDS:
            faults.append(FieldError(_FIELDS[kind], f"{words} on this machine"))
        else:
            name = kind.removeprefix(POOL)
            known = ", ".join(sorted(capacity.pools)) or "none"
            message = f"there is no pool {name!r}; the pools of this server: {known}"
            faults.append(FieldError(f"pools.{spec.pools.index(name)}", message))
    return faults


def room_json(room: Room) -> dict[str, Any]:
    """What there is and what of it is free, as `/v1/node` shows it; null: without end."""
    return {"capacity": _amounts(room.total), "free": _amounts(room.free)}


def _amounts(of: Mapping[str, float]) -> dict[str, Any]:
    known = {kind: None if math.isinf(amount) else amount for kind, amount in of.items()}
    cpus = known.get(CPUS)
    return {
        "tasks": known.get(SLOT),
        "cpus": None if cpus is None else cpus / CPU,
        "memoryMb": known.get(MEMORY),
        "gpus": known.get(GPUS),
        "pools": {kind.removeprefix(POOL): amount for kind, amount in known.items() if kind.startswith(POOL)},
    }


# -- found out


def detect(settings: Settings) -> Capacity:
    """What there is, where the settings do not say otherwise. Takes up to seconds: it may wake a driver."""
    limits = CgroupLimits.own()
    cpus = min(len(os.sched_getaffinity(0)), limits.cpus)
    memory_mb = int(min(_memory_bytes(), limits.memory_bytes)) // _MIB
    return Capacity(
        cpus=cpus if settings.cpus is None else settings.cpus,
        memory_mb=memory_mb if settings.memory_mb is None else settings.memory_mb,
        gpus=detect_gpus() if settings.gpus is None else tuple(range(settings.gpus)),
        pools=dict(settings.pools),
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True, slots=True)
class CgroupLimits:
    """What a cgroup (v2) and all above it leave to this process; infinite where they say nothing."""

    cpus: float = math.inf
    memory_bytes: float = math.inf

    @classmethod
    def own(cls) -> CgroupLimits:
        """Those of this process."""
        try:
            groups = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            groups = mounts = ""
        roots = [line.split()[1] for line in mounts.splitlines() if line.split()[2] == "cgroup2"]
        paths = [line.removeprefix("0::") for line in groups.splitlines() if line.startswith("0::")]
        return cls.of(Path(roots[0]), paths[0]) if roots and paths else cls()

    @classmethod
    def of(cls, root: Path, path: str) -> CgroupLimits:
        """Those of the cgroup that /proc/PID/cgroup calls ``path``, where the tree is mounted at ``root``."""
        inside = [] if ".." in path.split("/") else path.strip("/").split("/")  # "..": above what is mounted here
        groups = [root.joinpath(*inside[:depth]) for depth in range(len(inside) + 1)]
        return cls(
            cpus=min((quota for group in groups for quota in _cpus(group)), default=math.inf),
            memory_bytes=min((limit for group in groups for limit in _memory(group)), default=math.inf),
        )


def _cpus(group: Path) -> Iterator[float]:
    quota, period = [*read(f"{group}/cpu.max").split(), "max", "max"][:2]
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield int(quota) / int(period)


def _memory(group: Path) -> Iterator[int]:
    yield from (int(word) for word in read(f"{group}/memory.max").split() if word.isdecimal())


def detect_gpus() -> tuple[int, ...]:
    """The indices of NVIDIA's graphics processors, in the order of their places on the bus, as `nvidia-smi` has them.

    Where CUDA_VISIBLE_DEVICES is set for the daemon, only those that it names.
    """
    try:
        import pynvml
    except Exception:
        return ()
    try:
        pynvml.nvmlInit()
    except Exception as error:
        log.info("no graphics processors: %s", error)
        return ()
    try:
        devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return tuple(range(len(devices)))
        return _named([_uuid(pynvml.nvmlDeviceGetUUID(device)) for device in devices], visible)
    except Exception as error:
        log.warning("the graphics processors could not be counted: %s", error)
        return ()
    finally:
        pynvml.nvmlShutdown()


def _uuid(given: Any) -> str:
    return given.decode() if isinstance(given, bytes) else str(given)  # older versions of the library give bytes


def _named(uuids: list[str], visible: str) -> tuple[int, ...]:
    """The indices that a value of CUDA_VISIBLE_DEVICES names, which ends at the first that is not there."""
    found = []
    for name in visible.split(","):
        word = name.strip()
        matching = [index for index, uuid in enumerate(uuids) if word in (str(index), uuid)]
        if not matching and len(word) > len("GPU-"):
            matching = [index for index, uuid in enumerate(uuids) if uuid.startswith(word)]
        if len(matching) != 1:
            break
        found += matching
    return tuple(sorted(set(found)))

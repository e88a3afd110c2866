"""What the Docker API is told when a container is made, and what of its limits is enforced."""

from __future__ import annotations

import resource
from typing import Any

from task_runner.engines.base import Order
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

_MB = 2**20
#: a log that is never rotated: what is rotated away could not be read again
_ENDLESS = "1t"
#: what the kernel's weights can be told through the API; 500 is what everybody else has there (Docker's default)
_WEIGHTS = (10, 1000)


def host_config(order: Order, *, podman: bool) -> dict[str, Any]:
    """Arguments for docker.APIClient.create_host_config."""
    from docker.types import Mount

    return {
        "mounts": [Mount(each.target or each.source, each.source, "bind", each.read_only) for each in order.mounts],
        "devices": [f"{each}:{each}:rwm" for each in order.devices],
        "network_mode": order.network,
        "security_opt": ["no-new-privileges"],
        "log_config": _log_config(podman),
        **_limits(order.limits or TaskLimits(), podman),
    }


def _log_config(podman: bool) -> dict[str, Any]:
    """The log drivers that keep every byte. Docker's default one, json-file, replaces what is not valid UTF-8."""
    if podman:
        return {"Type": "k8s-file", "Config": {"max-size": _ENDLESS}}
    return {"Type": "local", "Config": {"max-size": _ENDLESS, "max-file": "1", "compress": "false"}}


def _limits(limits: TaskLimits, podman: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"ulimits": _ulimits(limits, podman)}
    if limits.memory_mb is not None:
        told["mem_limit"] = limits.memory_mb * _MB
        if limits.swap_mb is not None:
            told["memswap_limit"] = (limits.memory_mb + limits.swap_mb) * _MB
    if limits.cpus is not None:
        told["nano_cpus"] = round(limits.cpus * 10**9)
    if limits.pids is not None:
        told["pids_limit"] = limits.pids
    if limits.io_weight is not None:
        told["blkio_weight"] = _weight(limits.io_weight)
    return told


def _ulimits(limits: TaskLimits, podman: bool) -> list[Any]:
    from docker.types import Ulimit

    asked = {"nofile": limits.open_files}
    if limits.core_mb is not None:
        asked["core"] = limits.core_mb * _MB
    if limits.file_mb is not None:
        asked["fsize"] = limits.file_mb * _MB
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked and podman:
        # told of any, Podman forgets the defaults of its configuration and raises these two as far as root may:
        # which fails where root may not
        asked = {"nofile": _own(resource.RLIMIT_NOFILE), "nproc": _own(resource.RLIMIT_NPROC), **asked}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in asked.items() if value is not None]


def _own(number: int) -> int | None:
    hard = resource.getrlimit(number)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _weight(asked: int) -> int:
    return max(_WEIGHTS[0], min(asked, _WEIGHTS[1]))


def notes(limits: TaskLimits, engine: str, info: dict[str, Any], warnings: list[str]) -> list[LimitNote]:
    """What becomes of each limit that is asked for: as the engine says it of its host and of the container."""
    made = []
    for name, asked, reason in _asked(limits, info, " ".join(warnings)):
        if asked is not None:
            made.append(LimitNote(limit=name, asked=asked, by=None if reason else engine, note=reason))
    return made


def _asked(limits: TaskLimits, info: dict[str, Any], warned: str) -> list[tuple[str, float | None, str | None]]:
    """Limit, what was asked, and why it is not enforced."""

    def lacking(flag: str, what: str) -> str | None:
        return None if info.get(flag) else f"the engine cannot limit {what} on this machine"

    memory = lacking("MemoryLimit", "memory")
    swap = lacking("SwapLimit", "swap")
    if limits.memory_mb is None:
        swap = "the engine limits swap only together with memoryMb"
    weight = "the engine cannot weigh disks on this machine" if "weight" in warned.lower() else None
    return [
        ("memoryMb", limits.memory_mb, memory),
        ("swapMb", limits.swap_mb, swap),
        ("cpus", limits.cpus, lacking("CpuCfsQuota", "processors")),
        ("pids", limits.pids, lacking("PidsLimit", "processes")),
        ("openFiles", limits.open_files, None),
        ("coreMb", limits.core_mb, None),
        ("fileMb", limits.file_mb, None),
        ("nice", limits.nice, "an engine has no such limit"),
        ("ioWeight", limits.io_weight, weight),
    ]

"""What the Docker API is told when a container is made, and what of its limits is enforced."""

from __future__ import annotations

import resource
import socket
import struct
from typing import Any

from task_runner.engines.base import Order
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

_MB = 2**20
#: a log that is never rotated: what is rotated away could not be read again
_ENDLESS = "1t"
#: what the kernel's weights can be told through the API; 500 is what everybody else has there (Docker's default)
_WEIGHTS = (10, 1000)
#: a limit, what was asked, and why it is not enforced
_Asked = tuple[str, float | None, str | None]


def host_config(order: Order, podman: str | None) -> dict[str, Any]:
    """Arguments for docker.APIClient.create_host_config; ``podman``: the path of its socket, where it is Podman."""
    from docker.types import Mount

    return {
        "mounts": [Mount(each.target or each.source, each.source, "bind", each.read_only) for each in order.mounts],
        "devices": [f"{each.path}:{each.target or each.path}:{each.permissions}" for each in order.devices],
        "network_mode": order.network,
        "security_opt": ["no-new-privileges"],
        "log_config": _log_config(podman),
        **_limits(order.limits or TaskLimits(), podman),
    }


def _log_config(podman: str | None) -> dict[str, Any]:
    """The log drivers that keep every byte. Docker's default one, json-file, replaces what is not valid UTF-8."""
    if podman:
        return {"Type": "k8s-file", "Config": {"max-size": _ENDLESS}}
    return {"Type": "local", "Config": {"max-size": _ENDLESS, "max-file": "1", "compress": "false"}}


def _limits(limits: TaskLimits, podman: str | None) -> dict[str, Any]:
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


def _ulimits(limits: TaskLimits, podman: str | None) -> list[Any]:
    from docker.types import Ulimit

    asked = {}
    if limits.open_files is not None:
        asked["nofile"] = limits.open_files
    if limits.core_mb is not None:
        asked["core"] = limits.core_mb * _MB
    if limits.file_mb is not None:
        asked["fsize"] = limits.file_mb * _MB
    if asked and podman:
        asked = {**_ceilings(podman), **asked}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in asked.items()]


def _ceilings(path: str) -> dict[str, int]:
    """How far an engine can raise the two limits that Podman raises as far as root may, once it is told of any: root
    that has not got every capability may not, and then the container does not start."""
    found = {}
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(path)
            pid = struct.unpack("3i", engine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
            hard = resource.prlimit(pid, number)[1]
            if hard != resource.RLIM_INFINITY:
                found[name] = hard
    except (OSError, ValueError):
        pass  # another user's: rootless Podman, which minds its limits by itself
    return found


def _weight(asked: int) -> int:
    return max(_WEIGHTS[0], min(asked, _WEIGHTS[1]))


def depends_on_host(limits: TaskLimits) -> bool:
    """Whether `notes` wants to know what the engine says of its host."""
    return any(each is not None for each in (limits.memory_mb, limits.swap_mb, limits.cpus, limits.pids))


def notes(limits: TaskLimits, engine: str, info: dict[str, Any], taken: dict[str, Any] | None) -> list[LimitNote]:
    """What becomes of each limit that is asked for: as the engine says it of its host, and of the container once that
    is made (``taken``: its HostConfig)."""
    made = []
    for name, asked, reason in _asked(limits, info, taken):
        if asked is not None:
            made.append(LimitNote(limit=name, asked=asked, by=None if reason else engine, note=reason))
    return made


def _asked(limits: TaskLimits, info: dict[str, Any], taken: dict[str, Any] | None) -> list[_Asked]:

    def lacking(flag: str, what: str) -> str | None:
        return None if info.get(flag) else f"the engine cannot limit {what} on this machine"

    memory = lacking("MemoryLimit", "memory")
    swap = lacking("SwapLimit", "swap")
    if limits.memory_mb is None:
        swap = "the engine limits swap only together with memoryMb"
    # both leave it out, rather than refuse it, where the kernel has no such thing
    weight = None if taken is None or taken.get("BlkioWeight") else "the engine cannot weigh disks on this machine"
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

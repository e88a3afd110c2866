"""What an engine of the CRI is told when a container is made, and what of its limits is enforced."""

from __future__ import annotations

import os
import secrets

from cri_api.v1 import api_pb2 as cri

from task_runner.engines.base import Order
from task_runner.errors import EngineFailed
from task_runner.model.status import LimitNote
from task_runner.model.walls import TaskLimits

#: of sandboxes, beside their name: nobody else's are called so
NAMESPACE = "task-runner"
#: how many processes a container may have: the CRI cannot be told, so it is kept for `start`
PIDS = "task-runner.pids"
#: tells a sandbox from another one of the same name, whose maker was refused this one
MAKING = "task-runner.making"

_MB = 2**20
#: microseconds in which a container may use its processors for their share of it
_PERIOD = 100_000
#: hidden from a container, and shown read-only: an engine of the CRI hides nothing unless it is told to
_MASKED = ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"]
_READ_ONLY = ["bus", "fs", "irq", "sys", "sysrq-trigger"]


def sandbox(order: Order) -> cri.PodSandboxConfig:
    """The sandbox of a container. Raises EngineFailed where there is no such network."""
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=order.name, uid=order.name, namespace=NAMESPACE),
        labels=order.labels,
        annotations={MAKING: secrets.token_hex(8)},
        linux=cri.LinuxPodSandboxConfig(
            security_context=cri.LinuxSandboxSecurityContext(
                namespace_options=_namespaces(order.network), seccomp=_SECCOMP
            )
        ),
    )


def container(order: Order) -> cri.ContainerConfig:
    """The container. Raises EngineFailed where what it is to see is not there."""
    limits = order.limits or TaskLimits()
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=order.name),
        image=cri.ImageSpec(image=order.image),
        command=order.command,
        args=order.args,
        working_dir=order.working_directory or "",
        envs=[cri.KeyValue(key=key, value=value) for key, value in order.env.items()],
        mounts=_mounts(order),
        devices=[
            cri.Device(host_path=each.path, container_path=each.target or each.path, permissions=each.permissions)
            for each in order.devices
        ],
        labels=order.labels,
        annotations={} if limits.pids is None else {PIDS: str(limits.pids)},
        linux=cri.LinuxContainerConfig(
            resources=_resources(limits),
            security_context=cri.LinuxContainerSecurityContext(
                namespace_options=_namespaces(order.network),
                # "user:group", by name or number: the engine takes it whole, and looks it up in the image
                run_as_username=order.user or "",
                no_new_privs=True,
                seccomp=_SECCOMP,
                masked_paths=[*(f"/proc/{each}" for each in _MASKED), "/sys/firmware"],
                readonly_paths=[f"/proc/{each}" for each in _READ_ONLY],
            ),
        ),
    )


_SECCOMP = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)


def _namespaces(network: str) -> cri.NamespaceOption:
    if network not in ("host", "bridge"):
        raise EngineFailed(
            f"the CRI has no network {network!r}: there is `host`, and `bridge` for the one that the engine's CNI "
            "configuration makes"
        )
    return cri.NamespaceOption(network=cri.NODE if network == "host" else cri.POD, pid=cri.CONTAINER, ipc=cri.POD)


def _mounts(order: Order) -> list[cri.Mount]:
    for each in order.mounts:
        # the engine would make a directory of what is missing
        if not os.path.exists(each.source):
            raise EngineFailed(f"{each.source}, which is to be mounted, does not exist")
    return [
        cri.Mount(host_path=each.source, container_path=each.target or each.source, readonly=each.read_only)
        for each in order.mounts
    ]


def _resources(limits: TaskLimits) -> cri.LinuxContainerResources:
    told = cri.LinuxContainerResources()
    if limits.memory_mb is not None:
        told.memory_limit_in_bytes = limits.memory_mb * _MB
        told.memory_swap_limit_in_bytes = (limits.memory_mb + (limits.swap_mb or 0)) * _MB
    if limits.cpus is not None:
        told.cpu_period, told.cpu_quota = _PERIOD, round(limits.cpus * _PERIOD)
    return told


def notes(limits: TaskLimits, engine: str, pids_by: str | None) -> list[LimitNote]:
    """What becomes of each limit that is asked for; ``pids_by``: what can limit processes here, if anything can."""
    no_swap = None if limits.memory_mb is not None else "the engine limits swap only together with memoryMb"
    late = "set right after the start" if pids_by else "the CRI has no such limit, and it cannot be set beside it here"
    never = "the CRI has no such limit"
    told: list[tuple[str, float | None, str | None, str | None]] = [
        ("memoryMb", limits.memory_mb, engine, None),
        ("swapMb", limits.swap_mb, None if no_swap else engine, no_swap),
        ("cpus", limits.cpus, engine, None),
        ("pids", limits.pids, pids_by, late),
        ("openFiles", limits.open_files, None, never),
        ("coreMb", limits.core_mb, None, never),
        ("fileMb", limits.file_mb, None, never),
        ("nice", limits.nice, None, never),
        ("ioWeight", limits.io_weight, None, never),
    ]
    return [LimitNote(limit=name, asked=asked, by=by, note=note) for name, asked, by, note in told if asked is not None]

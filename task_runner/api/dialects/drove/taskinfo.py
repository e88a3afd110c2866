"""A task as Drove shows it: TaskInfo. Pure.

What it echoes of the request stands in the task's metadata (record.py); where that cannot be read, what the spec says
is shown in its place. Processors and memory are counted here, not laid out: they are shown as those of NUMA node 0, and
of the numbers of cores only how many there are means anything.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from task_runner.api.dialects.drove.node import NUMA, millis
from task_runner.api.dialects.drove.record import DroveRecord, names_of, record_of
from task_runner.api.dialects.drove.states import error_of, has_started, result_of, state_of
from task_runner.errors import Damaged
from task_runner.model.codec import from_json
from task_runner.model.machines import CONTAINER
from task_runner.model.spec import Spec
from task_runner.model.walls import ContainerParameters
from task_runner.service.task import Record, Task


@dataclass(frozen=True, slots=True)
class Place:
    """Where tasks are run."""

    executor_id: str
    hostname: str


def names(task: Task) -> tuple[str, str] | None:
    """sourceAppName and taskId; None: it is no task of Drove's clients."""
    if (named := names_of(task.alias)) is not None:
        return named
    asked = record_of(task.spec.metadata)
    return None if asked is None else (asked.source_app_name, asked.task_id)


def view(task: Task, place: Place) -> dict[str, Any]:
    """A TaskInfo. Fields that are None are to be left out."""
    app, name = names(task) or (None, None)
    asked, result = record_of(task.spec.metadata), result_of(task.record)
    return {
        "sourceAppName": app,
        "taskId": name,
        "instanceId": asked.instance_id if asked else f"TI-{uuid.uuid5(uuid.NAMESPACE_OID, task.id)}",
        "executorId": place.executor_id,
        "hostname": place.hostname if has_started(task.record) else None,
        **(_echo(asked) if asked else _told(task.spec)),
        "state": state_of(task.record).value,
        "metadata": {},
        "taskResult": result and {"status": result.status, "exitCode": result.exit_code},
        "errorMessage": error_of(task.record),
        "created": millis(task.record.created_at),
        "updated": millis(_updated(task.record)),
    }


def _echo(asked: DroveRecord) -> dict[str, Any]:
    """What the request said."""
    cores = sum(each.get("count", 0) for each in asked.resources if each.get("type") == "CPU")
    memory = sum(each.get("sizeInMB", 0) for each in asked.resources if each.get("type") == "MEMORY")
    return {
        "executable": asked.executable,
        "resources": _resources(cores, memory),
        "volumes": asked.volumes,
        "loggingSpec": asked.logging,
        "env": asked.env,
    }


def _told(spec: Spec) -> dict[str, Any]:
    """What the spec says, where it is not known what the request said."""
    needs, container = spec.resources, _container(spec)
    image = container.image if container else ""
    timeout = f"{container.pull_timeout_seconds:.0f} seconds" if container else None
    return {
        "executable": {"type": "DOCKER", "url": image, "dockerPullTimeout": timeout},
        "resources": _resources(int(needs.cpus or 0), needs.memory_mb or 0) if needs else [],
        "volumes": [],
        "env": container.env if container else {},
    }


def _container(spec: Spec) -> ContainerParameters | None:
    asked = next((each.parameters for each in spec.actions if each.machine == CONTAINER), None)
    try:
        return None if asked is None else from_json(ContainerParameters, asked)
    except Damaged:
        return None


def _resources(cores: int, memory_mb: int) -> list[dict[str, Any]]:
    return [
        {"type": "CPU", "cores": {NUMA: list(range(cores))}},
        {"type": "MEMORY", "memoryInMB": {NUMA: memory_mb}},
    ]


def _updated(record: Record) -> str:
    """When something was last heard of it."""
    said = record.status.heartbeat.at if record.status is not None else None
    times = (record.created_at, record.renewed_at, record.finished_at, said)
    return max(each for each in times if each is not None)

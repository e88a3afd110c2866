"""Executors: there is one, this node.

Processors and memory are counted, not laid out: all of them are shown as one NUMA node, and of the numbers of the cores
only how many are free and used means anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.dialects.drove.envelope import failure, invalid, success
from task_runner.api.dialects.drove.node import NUMA, executor_id, hostname, now_millis
from task_runner.api.dialects.drove.taskinfo import view
from task_runner.api.dialects.drove.tasks import place_of, unfinished
from task_runner.model.scopes import Scope
from task_runner.service.schedule import CPU, CPUS, MEMORY, Room
from task_runner.service.tasks import TaskService

ACTIVE, BLACKLISTED = "ACTIVE", "BLACKLISTED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Whole units of something: what there is, and what of it a task can have."""

    total: int
    free: int

    @property
    def used(self) -> int:
        return self.total - self.free

    @classmethod
    def of(cls, total: float, free: float) -> Share:
        """Rounded down: half a processor is none where whole ones are asked for. What has no end is not counted."""
        if math.isinf(total):
            return cls(total=0, free=0)
        whole = math.floor(total)
        return cls(total=whole, free=min(whole, max(0, math.floor(free))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What is shown of this node."""

    executor_id: str
    hostname: str
    #: none: a Unix socket
    port: int | None
    transport: str
    cores: Share
    #: in MiB
    memory: Share
    tags: list[str]
    #: it starts nothing new
    drained: bool
    #: milliseconds since 1970
    at: int

    @property
    def state(self) -> str:
        return BLACKLISTED if self.drained else ACTIVE

    @property
    def address(self) -> str:
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"


def cores_of(room: Room) -> Share:
    """Processors, of which the scheduler counts millionths."""
    return Share.of(room.total[CPUS] / CPU, room.free[CPUS] / CPU)


def node_of(request: Request) -> Node:
    """This node as it is now, at the address that the request came in by."""
    service = service_of(request)
    room = service.queue.room()
    server = request.scope.get("server")
    return Node(
        executor_id=executor_id(service.settings.state_dir),
        hostname=hostname(),
        port=server[1] if server else None,
        transport=request.url.scheme.upper(),
        cores=cores_of(room),
        memory=Share.of(room.total[MEMORY], room.free[MEMORY]),
        tags=list(dict.fromkeys([hostname(), *service.settings.drove_tags])),
        drained=service.drain.since is not None,
        at=now_millis(service.clock),
    )


def summary(node: Node) -> dict[str, Any]:
    """ExecutorSummary."""
    return {
        "executorId": node.executor_id,
        "hostname": node.hostname,
        "port": node.port,
        "transportType": node.transport,
        "freeCores": node.cores.free,
        "usedCores": node.cores.used,
        "freeMemory": node.memory.free,
        "usedMemory": node.memory.used,
        "tags": node.tags,
        "state": node.state,
    }


def details(node: Node, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """ExecutorNodeData."""
    cores = list(range(node.cores.total))
    return {
        "type": "EXECUTOR",
        "hostname": node.hostname,
        "port": node.port,
        "transportType": node.transport,
        "updated": node.at,
        "state": {
            "executorId": node.executor_id,
            "cpus": {
                "type": "CPU",
                "freeCores": {NUMA: cores[node.cores.used :]},
                "usedCores": {NUMA: cores[: node.cores.used]},
            },
            "memory": {
                "type": "MEMORY",
                "freeMemory": {NUMA: node.memory.free},
                "usedMemory": {NUMA: node.memory.used},
            },
            "layout": {"cores": {NUMA: cores}, "memory": {NUMA: node.memory.total}},
        },
        "instances": [],
        "tasks": tasks,
        "serviceInstances": [],
        "tags": node.tags,
        "metadata": {},
        "executorState": node.state,
        # Drove's name for it before 1.33, which its command line tool still reads
        "blacklisted": node.drained,
    }


async def list_executors(request: Request) -> Response:
    """GET /apis/v1/cluster/executors"""
    return success([summary(node_of(request))])


async def get_executor(request: Request) -> Response:
    """GET /apis/v1/cluster/executors/{id}"""
    node, asked = node_of(request), request.path_params["executor_id"]
    if asked != node.executor_id:
        return failure(f"No executor found with id: {asked}")
    return success(details(node, _tasks(service_of(request))))


def _tasks(service: TaskService) -> list[dict[str, Any]]:
    """TaskInfo of each that a runner has."""
    place = place_of(service)
    return [view(each, place) for each in unfinished(service) if not each.waiting]


async def blacklist(request: Request) -> Response:
    """POST /apis/v1/cluster/executors/blacklist?id=…, or …/{id}/blacklist: finish what runs, start nothing."""
    return await _switch(request, drained=True)


async def unblacklist(request: Request) -> Response:
    """POST /apis/v1/cluster/executors/unblacklist?id=…, or …/{id}/unblacklist"""
    return await _switch(request, drained=False)


async def _switch(request: Request, *, drained: bool) -> Response:
    service = service_of(request)
    own = executor_id(service.settings.state_dir)
    named = request.path_params.get("executor_id")
    asked = dict.fromkeys([named] if named else request.query_params.getlist("id"))
    if not asked:
        return invalid("id - must not be empty")
    failed = [name for name in asked if name != own]
    if own in asked:
        await (service.drain.begin() if drained else service.drain.end())
    return success({
        "successful": [name for name in asked if name == own],
        "failed": failed,
        "message": f"No executor found with id: {', '.join(failed)[:200]}" if failed else None,
    })


routes = [
    route("/apis/v1/cluster/executors", list_executors, scope=Scope.READ),
    route("/apis/v1/cluster/executors/blacklist", blacklist, scope=Scope.ADMIN, methods=["POST"]),
    route("/apis/v1/cluster/executors/unblacklist", unblacklist, scope=Scope.ADMIN, methods=["POST"]),
    route("/apis/v1/cluster/executors/{executor_id}", get_executor, scope=Scope.READ),
    route("/apis/v1/cluster/executors/{executor_id}/blacklist", blacklist, scope=Scope.ADMIN, methods=["POST"]),
    route("/apis/v1/cluster/executors/{executor_id}/unblacklist", unblacklist, scope=Scope.ADMIN, methods=["POST"]),
]

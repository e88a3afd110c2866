"""The cluster: of one node, which leads it.

Maintenance of the cluster and blacklisting of its executor are the same here: a drain. It is remembered.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import HOLDER, route
from task_runner.api.app import service_of
from task_runner.api.dialects.drove.envelope import success
from task_runner.api.dialects.drove.executors import Node, node_of
from task_runner.api.dialects.drove.node import millis, now_millis
from task_runner.api.dialects.drove.tasks import unfinished
from task_runner.model.scopes import Scope

MAINTENANCE, NORMAL = "MAINTENANCE", "NORMAL"


def summary(node: Node, active_tasks: int) -> dict[str, Any]:
    """ClusterSummary. Memory is in MiB."""
    return {
        "leader": node.address,
        "state": MAINTENANCE if node.drained else NORMAL,
        "numExecutors": 1,
        "numApplications": 0,
        "numActiveApplications": 0,
        "numActiveTasks": active_tasks,
        "numLocalServices": 0,
        "numActiveLocalServices": 0,
        "freeCores": node.cores.free,
        "usedCores": node.cores.used,
        "totalCores": node.cores.total,
        "freeMemory": node.memory.free,
        "usedMemory": node.memory.used,
        "totalMemory": node.memory.total,
    }


async def get_cluster(request: Request) -> Response:
    """GET /apis/v1/cluster"""
    return success(summary(node_of(request), len(unfinished(service_of(request)))))


async def set_maintenance(request: Request) -> Response:
    """POST /apis/v1/cluster/maintenance/set: what runs is finished, nothing new is taken until told otherwise."""
    drain = service_of(request).drain
    await drain.begin()
    return success({"state": MAINTENANCE, "updated": drain.since and millis(drain.since)})


async def unset_maintenance(request: Request) -> Response:
    """POST /apis/v1/cluster/maintenance/unset: take tasks again, at once."""
    service = service_of(request)
    await service.drain.end()
    return success({"state": NORMAL, "updated": now_millis(service.clock)})


async def ping(_request: Request) -> Response:
    """GET /apis/v1/ping"""
    return success("pong")


routes = [
    route("/apis/v1/ping", ping, scope=HOLDER),
    route("/apis/v1/cluster", get_cluster, scope=Scope.READ),
    route("/apis/v1/cluster/maintenance/set", set_maintenance, scope=Scope.ADMIN, methods=["POST"]),
    route("/apis/v1/cluster/maintenance/unset", unset_maintenance, scope=Scope.ADMIN, methods=["POST"]),
]

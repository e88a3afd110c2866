"""The node: this daemon in numbers, and what it can put around tasks, as `/v1/node` shows them."""

from __future__ import annotations

from typing import Any

from task_runner.model.codec import to_json
from task_runner.model.state import State
from task_runner.service.capacity import room_json
from task_runner.service.tasks import TaskService


def node_json(service: TaskService) -> dict[str, Any]:
    """In numbers. Costs what is active, and touches no file."""
    active = [task for task in service.book.active.values() if not task.final]
    states = {state.value: 0 for state in State if state not in (State.EXITED, State.LOST)}
    for task in active:
        states[task.record.state.value] += 1
    return {
        "states": states,
        "stalled": sum(1 for task in active if task.stalled is not None),
        "maxRunning": service.queue.limits.max_running,
        **room_json(service.queue.room()),
        "draining": service.drain.since is not None,
        "drainedAt": service.drain.since,
        "empty": service.drain.empty,
        "outputQuota": {"bytes": service.settings.output_quota_bytes, "used": service.disk.output_bytes},
        "ready": service.recovered.is_set(),
        "storage": {"ok": service.book.storage_error is None, "error": service.book.storage_error},
        "storeSetAside": service.store.set_aside,
    }


def walls_json(service: TaskService) -> dict[str, Any]:
    """What can be put around tasks here, and why the rest cannot. Blocks: engines are asked, a sandbox is tried."""
    return {
        "limits": to_json(service.environment.means()),
        "engines": service.containers.engines(),
        "sandbox": {"problem": service.inside.why_no_sandbox()},
        "sidecars": {"problem": service.inside.why_no_sidecar()},
    }

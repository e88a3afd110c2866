"""The PodStatus of Kubernetes, for a task of containers."""

from __future__ import annotations

from typing import Any

from task_runner.lib.signals import parse
from task_runner.model.machines import CONTAINER
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus
from task_runner.service.task import Record, Task

_PENDING = {State.SCHEDULED, State.PENDING, State.STARTING, State.PROVISIONING}
#: what Kubernetes says of a container that could not be started, and of one that nobody knows any more
_UNSTARTED, _UNKNOWN = 128, 137


def pod_status(task: Task) -> dict[str, Any]:
    """What is known of it. One that has not begun has no `startTime`."""
    record = task.record
    steps = [_container(task, index) for index, each in enumerate(task.spec.actions) if each.machine == CONTAINER]
    inits, containers = steps[:-1], steps[-1:]
    ready = bool(containers) and all(each["ready"] for each in containers)
    condition = {
        "status": "True" if ready else "False",
        "lastProbeTime": None,
        "lastTransitionTime": max(filter(None, (_latest(each["state"]) for each in containers)), default=None)
        or _seconds(record.created_at),
    }
    shown: dict[str, Any] = {
        "phase": _phase(record, len(inits)),
        "conditions": [{"type": kind, **condition} for kind in ("Ready", "ContainersReady")],
        "reason": "DeadlineExceeded" if record.outcome is Outcome.TIMED_OUT else None,
        "message": record.error,
        "startTime": _seconds(record.status.started_at) if record.status else None,
        "initContainerStatuses": inits or None,
    }
    return {name: value for name, value in shown.items() if value is not None} | {"containerStatuses": containers}


def _phase(record: Record, inits: int) -> str:
    if record.outcome is not None:
        return "Succeeded" if record.outcome is Outcome.SUCCEEDED else "Failed"
    at = record.status.current_action_idx if record.status else 0
    return "Pending" if record.state in _PENDING or at < inits else "Running"


def _container(task: Task, index: int) -> dict[str, Any]:
    """ContainerStatus of an action."""
    record, action = task.record, task.spec.actions[index]
    known = next(
        (each for each in (record.status.actions if record.status else ()) if each.index == index and not each.cleanup),
        None,
    )
    state = _state(record, known)
    note = known.container if known is not None else None
    parameters = action.parameters if isinstance(action.parameters, dict) else {}
    tries = known.tries - 1 if known is not None and known.tries else 0
    return {
        "name": action.name or "main",
        "state": state,
        "lastState": {},
        "ready": "running" in state,
        "restartCount": record.attempt - 1 + tries,
        "image": str(parameters.get("image", "")),
        "imageID": (note.image_id if note else None) or "",
        **({"containerID": f"{note.engine}://{note.id}"} if note and note.id else {}),
        "started": "running" in state,
    }


def _state(record: Record, known: ActionStatus | None) -> dict[str, Any]:
    if known is None or known.state in ("pending", "waiting", "skipped"):
        begun = known is not None and record.status is not None and record.status.current_action_idx >= 0
        return {"waiting": {"reason": "PodInitializing" if begun else "ContainerCreating"}}
    if known.state == "exited" or record.outcome is not None:
        return {"terminated": _ended(record, known)}
    if record.state in _PENDING or (known.container is not None and known.container.stage in ("fetching", "making")):
        return {"waiting": {"reason": "ContainerCreating"}}
    return {"running": {"startedAt": _seconds(known.started_at)}}


def _ended(record: Record, known: ActionStatus) -> dict[str, Any]:
    number = parse(known.signal) if known.signal else None
    code, reason, message = known.exit_code, "Completed" if known.exit_code == 0 else "Error", known.error
    if number is not None:
        code = 128 + number
    elif code is None and known.outcome is Outcome.FAILED:
        unfetched = known.container is not None and known.container.stage == "unfetched"
        code, reason = _UNSTARTED, "ErrImagePull" if unfetched else "StartError"
    elif code is None:
        code, reason, message = _UNKNOWN, "ContainerStatusUnknown", known.error or record.error
    if known.oom_killed:
        reason = "OOMKilled"
    return {
        "exitCode": code,
        **({} if number is None else {"signal": number}),
        "reason": reason,
        **({} if message is None else {"message": message}),
        "startedAt": _seconds(known.started_at),
        "finishedAt": _seconds(known.finished_at or record.finished_at),
    }


def _latest(state: dict[str, Any]) -> str | None:
    (told,) = state.values()
    found: str | None = told.get("finishedAt") or told.get("startedAt")
    return found


def _seconds(stamp: str | None) -> str | None:
    return stamp and f"{stamp[:19]}Z"

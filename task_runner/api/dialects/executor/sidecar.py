"""Sidecar mode: commands run inside the main container, which is found by a variable that its processes have."""

from __future__ import annotations

from typing import Any

from task_runner.kernel import marks
from task_runner.service.settings import Settings

#: whose value is the name of the container
VARIABLE = "SANDBOX_MAIN_CONTAINER"
#: what our own commands there have beside it
_OURS = "TASK_RUNNER_SIDECAR"


def beside(parameters: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Parameters of the `process` machine, made to run where the settings say."""
    if not settings.executor_sidecar:
        return parameters
    return {**parameters, "sidecar": {"mark": mark(settings)}}


def mark(settings: Settings) -> str:
    return f"{VARIABLE}={settings.executor_main_container}"


def why_no_target(settings: Settings) -> str | None:
    """Why a command cannot run there now, in the words of the task-executor; None: it can. Reads all of /proc."""
    if not settings.executor_sidecar:
        return None
    if next(marks.carriers(mark(settings), _OURS), None) is not None:
        return None
    return f"failed to resolve target PID: no process found with environment variable {mark(settings)}"

"""The Python client of Task Runner's `/v1`.

    from task_runner.client import Client

    with Client() as client:
        task = client.submit(["make", "test"], timeout_seconds=600)
        for chunk in client.iter_output(task, follow=True):
            ...
        print(client.wait(task)["outcome"])

`AsyncClient` has the same methods, awaited; `TaskExecutor` is a `concurrent.futures.Executor` over commands. What the
command line does without is loaded when it is asked for, and httpx when the first request is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from task_runner.client.client import Client
from task_runner.client.discovery import Address, find
from task_runner.client.errors import (
    Alien,
    ApiError,
    BadRequest,
    Conflict,
    ConnectionBroken,
    ConnectionFailed,
    Forbidden,
    NotFound,
    Silent,
    StorageFull,
    TaskFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
    Untrusted,
)
from task_runner.client.records import Attempt, Batch, BatchResult, Event, FileEntry, Node, Task, Template, is_over

if TYPE_CHECKING:
    from task_runner.client.async_client import AsyncClient
    from task_runner.client.executor import TaskExecutor
    from task_runner.client.futures import TaskFuture, TaskResult
    from task_runner.client.results import Completed, Result

__all__ = [
    "Address", "Client", "AsyncClient", "TaskExecutor", "TaskFuture", "TaskResult", "find",
    "Attempt", "Batch", "BatchResult", "Completed", "Event", "FileEntry", "Node", "Result", "Task", "Template",
    "is_over",
    "Alien", "ApiError", "BadRequest", "Conflict", "ConnectionBroken", "ConnectionFailed", "Forbidden", "NotFound",
    "Silent", "StorageFull", "TaskFailed", "TooLarge", "Unauthorized", "Unavailable",
    "Untrusted",
]

_LATE = {
    "AsyncClient": "async_client",
    "Completed": "results",
    "Result": "results",
    "TaskExecutor": "executor",
    "TaskFuture": "futures",
    "TaskResult": "futures",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

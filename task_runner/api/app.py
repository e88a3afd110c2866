"""What the routes have of the application they belong to, and what they tell it of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request

from task_runner.api.access import holder_of, require
from task_runner.model.scopes import Scope
from task_runner.service.batchform import Expand
from task_runner.service.tasks import TaskService


def service_of(request: Request) -> TaskService:
    """Everything that can be asked for."""
    service: TaskService = request.app.state.service
    return service


def token_of(request: Request) -> str:
    """The name of the token that let a request in."""
    return holder_of(request).name


def expander(request: Request) -> Expand:
    """Puts the template that a task's body names into it. One that names none needs more than the route (`submit`)."""
    expand = service_of(request).expand

    def demanding(body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        if "template" not in body:
            require(request, Scope.SUBMIT)
        return expand(body)

    return demanding


def concerns(request: Request, *, tasks: Iterable[str] = (), batch: str | None = None) -> None:
    """Note for the audit log which tasks a request has made or changed, where its path does not have their ids."""
    said = request.scope["state"].setdefault("concerns", {"tasks": []})
    said["tasks"] += tasks
    if batch is not None:
        said["batch"] = batch

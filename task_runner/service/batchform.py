"""From a request body to a batch, or to a list of everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.batch import BatchRequest
from task_runner.model.spec import Spec
from task_runner.service.accept import BatchOrder
from task_runner.service.validate import parse_spec
from task_runner.service.validate_record import MOST_FAULTS, Record

_REQUEST = Record(BatchRequest)

#: a task's body, with the template that it names put in, and the name of that
Expand = Callable[[dict[str, Any]], tuple[dict[str, Any], str | None]]


def parse_batch(body: Any, expand: Expand) -> BatchOrder:
    """The batch that a JSON value describes. Raises InvalidRequest, NotFound (a template)."""
    request = _request(body)
    bodies, prefixes = _bodies(request)
    specs, templates, faults = list[Spec](), list[str | None](), list[FieldError]()
    for prefix, each in zip(prefixes, bodies, strict=True):
        try:
            long, template = expand(each) if isinstance(each, dict) else (each, None)
            specs.append(parse_spec(long))
            templates.append(template)
        except InvalidRequest as error:
            faults += [FieldError(".".join(filter(None, (prefix, f.field))), f.message) for f in error.fields]
        if len(faults) >= MOST_FAULTS or (faults and request.task is not None):
            break  # what is wrong with the one task is wrong for every entity
    if faults:
        raise InvalidRequest(fields=faults[:MOST_FAULTS])
    return BatchOrder(
        specs=specs, templates=templates, name=request.name, tags=request.tags, metadata=request.metadata
    )


def _request(body: Any) -> BatchRequest:
    if not isinstance(body, dict):
        raise InvalidRequest.at("", 'a batch is a JSON object with "tasks", or with "task" and "entities"')
    faults: list[FieldError] = []
    request = _REQUEST.read(body, "", faults)
    if request is None:
        raise InvalidRequest(fields=faults[:MOST_FAULTS])
    if (request.tasks is None) == (request.task is None):
        raise InvalidRequest.at("", 'give either "tasks", or "task" and "entities"')
    if (request.task is None) != (request.entities is None):
        raise InvalidRequest.at("entities", '"task" and "entities" stand together')
    return request


def _bodies(request: BatchRequest) -> tuple[list[Any], list[str]]:
    """The bodies of all tasks, and where each stands."""
    if request.tasks is not None:
        return request.tasks, [f"tasks.{index}" for index in range(len(request.tasks))]
    assert request.task is not None
    assert request.entities is not None
    if "entity" in request.task:
        raise InvalidRequest.at("task.entity", 'the entities stand in "entities"')
    seen: set[str] = set()
    for index, entity in enumerate(request.entities):
        if entity in seen:
            raise InvalidRequest.at(f"entities.{index}", f"{entity!r} stands there twice")
        seen.add(entity)
    return [{**request.task, "entity": entity} for entity in request.entities], ["task"] * len(request.entities)

"""Operations on tasks: CREATE and KILL, and whether a spec could be created.

Drove tells whoever it refuses with 400, and with one of two messages: what is not of the right shape, and what is not
allowed. All of it at once.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import either, require, route
from task_runner.api.app import concerns, service_of, token_of
from task_runner.api.body import raw_body
from task_runner.api.dialects.drove import placement, spec
from task_runner.api.dialects.drove.envelope import failure, invalid, success
from task_runner.api.dialects.drove.node import hostname
from task_runner.api.dialects.drove.placement import Place
from task_runner.api.dialects.drove.reader import Faults, Reader
from task_runner.api.dialects.drove.record import DroveRecord, alias_of, names_of
from task_runner.api.dialects.drove.spec import Site, TaskSpec
from task_runner.api.dialects.drove.units import Duration
from task_runner.errors import Conflict, FieldError, InvalidRequest
from task_runner.model.scopes import Scope
from task_runner.model.spec import Spec
from task_runner.service.inherited import chosen
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_json, parse_spec

MAINTENANCE = "Cluster is in maintenance mode"


async def operate(request: Request) -> Response:
    """POST /apis/v1/tasks/operations: CREATE or KILL. A task is on stable storage when it is answered."""
    faults = Faults()
    if (reader := await _body(request, faults)) is None:
        return _refusal(faults)
    match reader.word("type", ("CREATE", "KILL")):
        case "CREATE":
            require(request, Scope.SUBMIT)
            return await _create(request, reader)
        case "KILL":
            require(request, Scope.CONTROL)
            return await _kill(request, reader)
    if not faults.shapes:
        faults.shapes.append("type - one of CREATE, KILL is expected")
    return _refusal(faults)


async def validate(request: Request) -> Response:
    """POST /apis/v1/tasks/validate/spec: a TaskSpec alone."""
    faults = Faults()
    if (reader := await _body(request, faults)) is None:
        return _refusal(faults)
    service = service_of(request)
    planned = await asyncio.to_thread(_plan, service, reader, token_of(request))
    if planned is not None:
        _place(service, reader, planned[0])
    return _refusal(faults) if faults else success()


async def _create(request: Request, reader: Reader) -> Response:
    service, token = service_of(request), token_of(request)
    if service.drain.since is not None:
        return invalid(MAINTENANCE)
    operation = spec.read_operation(reader)
    given = reader.object("spec", missing="must not be null")
    planned = await asyncio.to_thread(_plan, service, given, token, operation) if given is not None else None
    if given is None or planned is None or reader.faults:
        return _refusal(reader.faults)
    # of two that come at once and count each other, one is to see the other
    async with _turn(request) if planned[0].policy.counts else nullcontext():
        return await _submit(request, given, *planned)


async def _submit(request: Request, reader: Reader, wanted: TaskSpec, planned: Spec) -> Response:
    service, record = service_of(request), wanted.record
    if service.aliases.find(record.alias) is not None:
        return invalid(_exists(record))
    _place(service, reader, wanted)
    if reader.faults:
        return _refusal(reader.faults)
    try:
        accepted = await service.submit(planned, origin="drove", token=token_of(request))
    except Conflict:
        return invalid(_exists(record))
    except InvalidRequest as error:
        _note(service, reader, error.fields, record)
        return _refusal(reader.faults)
    concerns(request, tasks=[accepted.task.id])
    return success({"taskId": record.drove_id})


async def _kill(request: Request, reader: Reader) -> Response:
    """What runs is killed without grace; what has not started is cancelled. Draining forbids neither."""
    app = reader.text("sourceAppName", missing="must not be empty")
    task_id = reader.text("taskId", missing="must not be empty")
    spec.read_operation(reader)
    if reader.faults or app is None or task_id is None:
        return _refusal(reader.faults)
    service = service_of(request)
    task = service.aliases.find(alias_of(app, task_id))
    if task is None or task.final or task.deleted:
        return invalid(f"Either task does not exist or has already finished for {app}/{task_id}")
    concerns(request, tasks=[task.id])
    await service.control.stop(task.id, signal="SIGKILL", grace=0.0, wait=0.0)
    return success({"taskId": task_id})


# -- from a request to a spec


async def _body(request: Request, faults: Faults) -> Reader | None:
    """The object of a body; None after a fault."""
    try:
        body = parse_json(await raw_body(request))
    except InvalidRequest as error:
        faults.shapes.append(str(error))
        return None
    if not isinstance(body, dict):
        faults.shapes.append("an object is expected")
        return None
    return Reader(body, "", faults)


def _plan(
    service: TaskService, reader: Reader, token: str, operation: tuple[Duration, dict[str, Any]] | None = None
) -> tuple[TaskSpec, Spec] | None:
    """What was asked for and what is to be submitted; None after faults were noted. Blocks: engines are asked, files
    are read."""
    wanted = spec.read(reader, _site(service), operation)
    if wanted is None:
        return None
    try:
        planned = parse_spec(wanted.body)
        service.check(planned, token)
    except InvalidRequest as error:
        _note(service, reader, error.fields, wanted.record)
        return None
    return wanted, planned


def _place(service: TaskService, reader: Reader, wanted: TaskSpec) -> None:
    here = Place(
        hostname=hostname(),
        tags=service.settings.drove_tags,
        tasks=_active(service, wanted.record.source_app_name),
    )
    if (why := placement.obstacle(wanted.policy, here)) is not None:
        reader.fault("placementPolicy", f"- {why}")


def _active(service: TaskService, app: str) -> int:
    """Tasks of a source application that are not over: one that was deleted is there until it has ended."""
    tasks = [each for each in service.book.active.values() if not each.final]
    return sum(1 for each in tasks if (names := names_of(each.alias)) is not None and names[0] == app)


def _note(service: TaskService, reader: Reader, fields: list[FieldError], record: DroveRecord) -> None:
    capacity = {"cpus": service.capacity.cpus, "memoryMb": service.capacity.memory_mb}
    for fault in fields:
        reader.faults.values.append(spec.fault_of(fault.field, fault.message, reader.at, record, capacity))


def _turn(request: Request) -> asyncio.Lock:
    """One for all requests of a daemon."""
    state = request.app.state
    if not hasattr(state, "drove_placing"):
        state.drove_placing = asyncio.Lock()
    lock: asyncio.Lock = state.drove_placing
    return lock


def _site(service: TaskService) -> Site:
    settings = service.settings
    return Site(
        hostname=hostname(),
        environ=chosen(settings.pass_environment, os.environ),
        name_of=service.secrets.name_of,
        registries=settings.drove_registries,
        pull_always=settings.drove_pull == "always",
        arguments=settings.drove_args,
        devices=bool(settings.container_devices),
    )


# -- answers


def _refusal(faults: Faults) -> Response:
    if faults.shapes:
        return failure("JSON validation failure", {"validationErrors": faults.all}, 400)
    return invalid(*faults.all)


def _exists(record: DroveRecord) -> str:
    app, task = record.source_app_name, record.task_id
    return f"Task already exists for {app}/{task} with taskID: {record.drove_id}"


routes = [
    route("/apis/v1/tasks/operations", operate, scope=either(Scope.SUBMIT, Scope.CONTROL), methods=["POST"]),
    route("/apis/v1/tasks/validate/spec", validate, scope=Scope.SUBMIT, methods=["POST"], changes=False),
]

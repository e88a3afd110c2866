"""From the tasks that there are to those that a client wants.

A task whose name is wanted stays as it is, whatever else of it is asked for, also where it is over or being deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from task_runner.api.dialects.executor import tasks
from task_runner.api.dialects.executor.view import name_of
from task_runner.api.dialects.executor.wire import Asked
from task_runner.errors import TaskRunnerError
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    delete: list[Task]
    create: list[Asked]


@dataclass(frozen=True, slots=True)
class Result:
    """What was done, and what could not be."""

    created: list[tuple[Asked, Task]] = field(default_factory=list)
    deleted: list[Task] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def plan(there: Iterable[Task], desired: Iterable[Asked]) -> Plan:
    """What leads from the ones to the others. Of those with one name the last counts; those without are passed over."""
    wanted = {asked.name: asked for asked in desired if asked.name}
    known = {name_of(task): task for task in there}
    return Plan(
        delete=[task for name, task in known.items() if name not in wanted],
        create=[asked for name, asked in wanted.items() if name not in known],
    )


async def synchronize(service: TaskService, desired: Sequence[Asked], token: str) -> Result:
    """Delete what is not wanted, make what is not there. What cannot be done hinders nothing else. The caller sees to
    it that nobody else changes these tasks meanwhile."""
    result, steps = Result(), plan(await tasks.everything(service), desired)
    # at once: they share the way to the disk
    outcomes = await asyncio.gather(*(tasks.delete(service, task) for task in steps.delete), return_exceptions=True)
    for task, outcome in zip(steps.delete, outcomes, strict=True):
        if isinstance(outcome, TaskRunnerError):
            result.failures.append(f"failed to delete task {name_of(task)}: {outcome}")
        elif outcome is not None:
            raise outcome
        else:
            result.deleted.append(task)
    for asked in steps.create:
        try:
            result.created.append((asked, await tasks.create(service, asked, token)))
        except TaskRunnerError as error:
            result.failures.append(f"failed to create task {asked.name}: {error}")
    return result

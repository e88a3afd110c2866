"""Checks the store and the task directories against each other; rebuilds the store from the directories."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from dataclasses import dataclass

from task_runner.environment.base import Environment, Sighting
from task_runner.environment.multiprocess import MultiprocessEnvironment
from task_runner.errors import Damaged, NotFound
from task_runner.lib.clock import stamp
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import read_control
from task_runner.model.codec import from_json, to_json
from task_runner.model.spec import Spec
from task_runner.model.state import FINAL, State
from task_runner.service import statements
from task_runner.service.store import Store
from task_runner.service.task import Record, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    #: "error": something is wrong; "note": worth knowing
    severity: str
    task_id: str | None
    message: str


def check(state_dir: str, *, rebuild: bool = False) -> list[Finding]:
    """Compare store and directories; no daemon may be running. Raises StateDirectoryBusy, NotFound."""
    state = StateDirectory(state_dir)
    if not os.path.isdir(state.tasks.path):
        raise NotFound(f"{state.path} is not a state directory")
    held = state.hold()
    try:
        return _check(state, rebuild)
    finally:
        os.close(held)


def _check(state: StateDirectory, rebuild_wanted: bool) -> list[Finding]:
    findings = [*_check_database(state)]
    store = Store(state.database)
    store.open()
    environment = MultiprocessEnvironment(state)
    try:
        if store.set_aside:
            findings.append(Finding("error", None, f"tasks.db was damaged; kept as {store.set_aside}"))
        known = set(environment.known())
        findings += _check_directories(store, environment, known)
        if rebuild_wanted or store.made_new:
            count = rebuild_now(store, environment)
            findings.append(Finding("note", None, f"{count} tasks were taken into the store from their directories"))
    finally:
        store.close()
    return findings


def _check_database(state: StateDirectory) -> list[Finding]:
    if not os.path.exists(state.database):
        return [Finding("error", None, "there is no tasks.db")]
    try:
        db = sqlite3.connect(state.database)
        rows = [row[0] for row in db.execute("PRAGMA integrity_check")]
        db.close()
    except sqlite3.DatabaseError as error:
        return [Finding("error", None, f"tasks.db: {error}")]
    return [Finding("error", None, f"tasks.db: {row}") for row in rows if row != "ok"]


def _check_directories(store: Store, environment: Environment, known: set[str]) -> list[Finding]:
    findings = []
    for task_id in sorted(known):
        task = store.get(task_id)
        if task is None:
            findings.append(Finding("error", task_id, "has a directory but is not in the store (see --rebuild)"))
            continue
        sighting = environment.look(task_id, task.record.attempt)
        if sighting.damage:
            findings.append(Finding("error", task_id, f"damaged: {sighting.damage}"))
        findings += _compare(task, sighting)
    return findings


def _compare(task: Task, sighting: Sighting) -> list[Finding]:
    status = sighting.status
    if task.final and sighting.alive:
        return [Finding("error", task.id, "is over by the store, but its runner lives")]
    if not task.final and status is not None and status.state in FINAL:
        return [Finding("note", task.id, "has ended; the daemon will take note of it at its next start")]
    if task.final and status is not None and status.outcome != task.record.outcome and not task.waiting:
        stored = task.record.outcome.value if task.record.outcome else None
        said = status.outcome.value if status.outcome else None
        return [Finding("error", task.id, f"ended {stored} by the store, {said} by its directory")]
    return []


async def rebuild(store: Store, environment: Environment) -> int:
    """Take every task that has a directory and no row into the store; returns how many."""
    ops = _missing_rows(store, environment)
    await store.write(ops)
    return len(ops)


def rebuild_now(store: Store, environment: Environment) -> int:
    """`rebuild`, where no event loop runs."""
    import asyncio

    return asyncio.run(rebuild(store, environment))


def _missing_rows(store: Store, environment: Environment) -> list[statements.Op]:
    ops = []
    seq = store.last_seq()
    missing = [task_id for task_id in environment.known() if store.get(task_id) is None]
    found = [task for task_id in missing if (task := _from_directory(task_id, environment)) is not None]
    found.sort(key=lambda task: task.record.created_at)
    _settle_aliases(found, store)
    for task in found:
        seq += 1
        task.seq = seq
        ops.append(statements.insert(task))
    return ops


def _settle_aliases(found: list[Task], store: Store) -> None:
    """Of tasks with the same alias the newest has it: the others were about to be removed."""
    taken: set[str] = set()
    for task in reversed(found):
        if task.alias is None:
            continue
        if task.alias in taken or store.by_alias(task.alias) is not None:
            task.alias = None
        else:
            taken.add(task.alias)


def _from_directory(task_id: str, environment: Environment) -> Task | None:
    directory = os.path.dirname(environment.output_path(task_id, 1))
    try:
        spec = from_json(Spec, json.loads(read_control(f"{directory}/spec.json")))
        created = os.stat(f"{directory}/spec.json").st_mtime
    except (OSError, ValueError, RecursionError, Damaged) as error:
        log.warning("task %s cannot be taken into the store; its directory stays: spec.json: %s", task_id, error)
        return None
    attempt = 1
    while os.path.isdir(os.path.dirname(environment.output_path(task_id, attempt + 1))):
        attempt += 1
    status = environment.look(task_id, attempt).status
    over = status is not None and status.state in FINAL
    # what is not over is looked at by the daemon, whatever is written here
    record = Record(
        state=status.state if status and over else State.UNKNOWN,
        outcome=status.outcome if status and over else None,
        attempt=attempt,
        origin=_origin(spec),
        created_at=(status.started_at if status else None) or stamp(created),
        finished_at=status.finished_at if status and over else None,
        status=status,
        error=status.error if status and over else None,
    )
    return Task(
        id=task_id,
        seq=0,
        spec_json=json.dumps(to_json(spec, sparse=True), ensure_ascii=False),
        name=spec.name,
        tags=dict(spec.tags),
        record=record,
        entity=spec.entity,
        alias=spec.alias,
    )


def _origin(spec: Spec) -> str:
    """A dialect's tasks are known by their aliases, and must be found again by its clients."""
    surface, colon, _name = (spec.alias or "").partition(":")
    return surface if colon else "rebuilt"

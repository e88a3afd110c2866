"""Accepting: from a checked spec to a task that is on stable storage.

Rule 1: what a request makes is one transaction: the rows of its tasks, their first events, its idempotency key. It is
        there whole or not at all.
Rule 2: numbers (of tasks and events) are given out in the moment in which the transaction is handed to the store's
        thread, so that whatever has a lower number than something that can be seen can be seen, too.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from task_runner.errors import Conflict, FieldError, InvalidRequest, NotFound
from task_runner.lib import failpoint
from task_runner.lib.clock import stamp
from task_runner.model.codec import to_json
from task_runner.model.spec import Spec
from task_runner.model.state import State
from task_runner.service import batch as batches
from task_runner.service import statements, when
from task_runner.service.aliases import Aliases
from task_runner.service.batch import Batch, Counts
from task_runner.service.book import Book
from task_runner.service.dependencies import by_name
from task_runner.service.statements import Op
from task_runner.service.task import Record, Task
from task_runner.service.tracecontext import INCOMING

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that a request made."""

    task: Task
    #: an earlier request with the same key had made it
    repeated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOrder:
    """A batch to be accepted: checked, its tasks as specs."""

    specs: Sequence[Spec]
    #: for each of them the template it was made from
    templates: Sequence[str | None]
    name: str | None = None
    tags: dict[str, str]
    metadata: dict[str, Any] | None = None


class Acceptance:
    """Takes in tasks and batches. ``find`` is how a task that another names in `after` is looked up: it raises
    NotFound. ``admit`` refuses what this server cannot do for the holder of a token (InvalidRequest, with the field
    below a prefix)."""

    def __init__(
        self,
        book: Book,
        *,
        aliases: Aliases,
        key_seconds: float,
        find: Callable[[str], Task],
        admit: Callable[[Spec, str, str], None],
        accepted: Callable[[Sequence[Task]], None],
    ) -> None:
        self._book = book
        self._aliases = aliases
        self._key_seconds = key_seconds
        self._find = find
        self._admit = admit
        self._accepted = accepted
        self._keys_under_way: dict[str, asyncio.Future[None]] = {}

    # -- one task

    async def task(
        self, spec: Spec, *, origin: str, key: str | None, template: str | None, token: str
    ) -> Accepted:
        """Accept a task. Raises InvalidRequest, StorageFull, Conflict."""
        # a request that was accepted once gets its answer again, also where it would be refused by now
        digest = _digest([spec]) if key is not None else ""

        async def accept() -> Task:
            # for others than plain processes an engine is asked or a trial made, and the daemon has others to answer
            plain = all(action.machine == "process" and not action.wrapped for action in spec.all_actions)
            admit = functools.partial(self._admitted, spec, "", token)
            admitted = admit() if plain else await asyncio.to_thread(admit)
            task_id, spec_json = secrets.token_hex(8), _encode(admitted)
            task = self._new(task_id, admitted, spec_json, origin=origin, template=template, token=token)
            failpoint.reach("accept.before-store")
            await self._keep([task], self._key_ops(key, task.id, digest))
            return task

        if key is None:
            return Accepted(await accept())
        made = await self._once(key, digest, accept)
        return Accepted(self._find(made), repeated=True) if isinstance(made, str) else Accepted(made)

    # -- many

    async def batch(
        self, order: BatchOrder, *, origin: str, key: str | None, token: str
    ) -> tuple[str, bool]:
        """Accept a batch, whole or not at all; returns its id, and whether an earlier request with the same key had
        made it. Raises InvalidRequest, StorageFull, Conflict."""
        words = ["batch", order.name, order.tags, order.metadata]
        digest = await asyncio.to_thread(_digest, order.specs, *words) if key is not None else ""

        async def accept() -> Batch:
            # a large one takes long, and the daemon has others to answer
            ids, specs, spec_jsons = await asyncio.to_thread(self._prepare, order, token)
            batch = Batch(
                id=secrets.token_hex(8),
                origin=origin,
                name=order.name,
                created_at=self._book.now(),
                num_tasks=len(specs),
                tags=order.tags,
                metadata=order.metadata,
                removed=Counts(),
            )
            tasks = [
                self._new(task_id, spec, spec_json, origin=origin, template=template, token=token, batch=batch.id)
                for task_id, spec, spec_json, template in zip(ids, specs, spec_jsons, order.templates, strict=True)
            ]
            failpoint.reach("accept.before-store")
            await self._keep(tasks, [batches.insert(batch), *self._key_ops(key, batch.id, digest)])
            return batch

        if key is None:
            return (await accept()).id, False
        made = await self._once(key, digest, accept)
        return (made, True) if isinstance(made, str) else (made.id, False)

    def _prepare(self, order: BatchOrder, token: str) -> tuple[list[str], list[Spec], list[str]]:
        ids = [secrets.token_hex(8) for _ in order.specs]
        mine = set(ids)
        specs = by_name(order.specs, ids)
        for index, spec in enumerate(specs):
            specs[index] = self._admitted(spec, f"tasks.{index}.", token, mine)
        return ids, specs, [_encode(spec) for spec in specs]

    # -- both

    def _admitted(self, spec: Spec, prefix: str, token: str, batch: AbstractSet[str] = frozenset()) -> Spec:
        """The spec with the ids of tasks written out. Raises InvalidRequest."""
        self._admit(spec, prefix, token)
        if not spec.after:
            return spec
        after, faults = [], []
        for index, each in enumerate(spec.after):
            try:
                after.append(each if each.task in batch else replace(each, task=self._find(each.task).id))
            except NotFound as error:
                faults.append(FieldError(f"{prefix}after.{index}.task", str(error)))
        if faults:
            raise InvalidRequest(fields=faults)
        return replace(spec, after=after)

    def _new(
        self,
        task_id: str,
        spec: Spec,
        spec_json: str,
        *,
        origin: str,
        token: str,
        template: str | None = None,
        batch: str | None = None,
    ) -> Task:
        due, now = when.parse(spec.execute_at), self._book.clock.time()
        later = due is not None and due > now
        return Task(
            id=task_id,
            seq=0,
            spec_json=spec_json,
            name=spec.name,
            tags=dict(spec.tags),
            record=Record(
                state=State.SCHEDULED if later else State.PENDING,
                origin=origin,
                created_at=stamp(now),
                execute_at=None if due is None else stamp(due),
                rank=self._book.next_rank(),
                template=template,
                token=token,
                trace=INCOMING.get(),
            ),
            entity=spec.entity,
            batch=batch,
            alias=spec.alias,
            _spec=spec,
        )

    async def _keep(self, tasks: list[Task], more: list[Op]) -> None:
        with self._aliases.reserved([task.alias for task in tasks], tasks[0].record.origin):
            await self._book.accept(tasks, more)
        failpoint.reach("accept.after-store")
        self._accepted(tasks)

    # -- once for each key

    async def _once(self, key: str, digest: str, make: Callable[[], Awaitable[T]]) -> T | str:
        """What ``make`` makes; or the id of what an earlier request with this key has made. Raises Conflict."""
        while key in self._keys_under_way:
            await asyncio.wait([self._keys_under_way[key]])
        since = stamp(self._book.clock.time() - self._key_seconds)
        if found := self._book.store.key(key, since):
            made, first_digest = found
            if digest != first_digest:
                raise Conflict("this idempotency key was used before, for a request with another body")
            return made
        under_way = self._keys_under_way[key] = asyncio.get_running_loop().create_future()
        try:
            return await make()
        finally:
            del self._keys_under_way[key]
            under_way.cancel()

    def _key_ops(self, key: str | None, made: str, digest: str) -> list[Op]:
        return [] if key is None else [statements.keep_key(key, made, digest, self._book.now())]


def _encode(spec: Spec) -> str:
    return json.dumps(to_json(spec, sparse=True), ensure_ascii=False)


def _digest(specs: Sequence[Spec], *words: Any) -> str:
    """Of what a request asks for. The order of an object's names means nothing, and may differ from try to try."""
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for spec in specs:
        digest.update(json.dumps(to_json(spec, sparse=True), sort_keys=True).encode())
    return digest.hexdigest()

"""The task service: what there is in one state directory, put together, and how a task is found.

Each noun has its own module: accepting (accept.py), controlling (control.py), removing (removal.py), batches
(batches.py).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Any

from task_runner.environment.base import Environment
from task_runner.errors import NotFound, Unavailable
from task_runner.lib.clock import Clock
from task_runner.lib.statedir import StateDirectory
from task_runner.model.spec import Spec
from task_runner.service import required, traceoptions
from task_runner.service.accept import Acceptance, Accepted, BatchOrder
from task_runner.service.accounts import Accounts
from task_runner.service.admission import Admission, Rule
from task_runner.service.aliases import Aliases
from task_runner.service.background import Background
from task_runner.service.batches import Batches
from task_runner.service.book import Book
from task_runner.service.capacity import Capacity, detect, misfits_of
from task_runner.service.containers import Containers
from task_runner.service.control import Control
from task_runner.service.disk import Disk
from task_runner.service.drain import Drain
from task_runner.service.events import Hub
from task_runner.service.forwarding import Forwarding
from task_runner.service.history import History, census
from task_runner.service.hostfiles import HostFiles
from task_runner.service.inherited import chosen
from task_runner.service.inside import Inside
from task_runner.service.leftovers import Leftovers
from task_runner.service.listing import list_tasks
from task_runner.service.liveuse import LiveUse
from task_runner.service.notify import Notifier
from task_runner.service.queue import Queue
from task_runner.service.recovery import Examined, examine, load
from task_runner.service.removal import Removal
from task_runner.service.retention import Retention
from task_runner.service.schedule import Limits
from task_runner.service.secrets import Secrets
from task_runner.service.sessions import Sessions
from task_runner.service.settings import Settings
from task_runner.service.store import Query, Store
from task_runner.service.task import Task
from task_runner.service.templates import Templates
from task_runner.service.tokens import ADMIN, Tokens
from task_runner.service.tracing import Tracer
from task_runner.service.watch import Watch

_PREFIX = re.compile(r"[0-9a-f]{4,16}")


class TaskService:
    """Everything that can be asked for. One per state directory."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        environment: Environment,
        clock: Clock,
        tokens: Tokens | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.environment = environment
        self.clock = clock
        self.tokens = tokens or Tokens(None, clock)
        self.sessions = sessions or Sessions(self.tokens, clock, seconds=settings.web_session_hours * 3600)
        self.hub = Hub()
        #: every runner of an earlier daemon has been examined
        self.recovered = asyncio.Event()
        #: and this came of it
        self.examined = Examined(0, 0)
        self._background = Background()

    # -- life

    async def start(self) -> None:
        """Open the store and the environment, and begin to examine what an earlier daemon left."""
        self.secrets = Secrets(self.settings.secrets_dir, os.environ)
        self.store.open()
        self._compose(await asyncio.to_thread(detect, self.settings))
        await self.environment.open(self.watch.news, self.queue.refused, self.watch.outage)
        self.batches.load()
        self.templates.load()
        self.drain.load()
        self.tokens.load(self.book)
        self.sessions.load(self.book)
        launched = await load(self.book, self.queue, self.environment, self._removal.begin)
        loop = self._background.loop
        loop("recover", self._recover(launched))
        loop("watch", self.watch.run())
        loop("scan", self.watch.scan())
        loop("retention", self.retention.run())
        loop("disk", self.disk.run())
        loop("notify", self.notifier.run())
        loop("leftovers", self.leftovers.run())
        loop("tokens", self.tokens.run())
        loop("sessions", self.sessions.run())
        loop("history", self.history.run())
        if self.tracer is not None:
            loop("tracing", self.tracer.run())

    def _compose(self, capacity: Capacity) -> None:
        settings = self.settings
        self.capacity = capacity
        self.book = Book(self.store, self.hub, self.clock)
        self.use = LiveUse(self.book, self.environment)
        self.notifier = Notifier(
            self.book,
            self.secrets,
            allow=settings.notify_allow,
            give_up_seconds=settings.notify_give_up_seconds,
            connections=settings.notify_connections,
        )
        self.book.also = self.notifier.messages
        self.tracer: Tracer | None = None
        if settings.tracing and traceoptions.wanted(os.environ):
            sampler = traceoptions.sampler(os.environ)
            self.tracer = Tracer(self.book, sampler, most=settings.tracing_waiting)
            self.book.ending = self.tracer.ops
        self.containers = Containers(settings)
        self.inside = Inside(settings, self.containers.why_no_engine)
        accounts = Accounts(settings)
        rules: list[Rule] = [
            self.secrets.check,
            self.notifier.check,
            HostFiles(settings.host_files).check,
            self.containers.check,
            self.inside.check,
            accounts.check,
            lambda spec, _token: required.check(spec, self.environment.means),
            Forwarding(settings.forward_allow, settings.forward_ca).check,
            lambda spec, _token: misfits_of(spec, capacity),
        ]
        inherited = chosen(settings.pass_environment, os.environ)
        traceparents = self.tracer.parents if self.tracer is not None else None
        admission = Admission(self.secrets, accounts, rules, inherited, traceparents)
        self._admission = admission
        self.queue = Queue(
            self.book,
            self.environment,
            Limits(max_running=settings.max_running, max_starting=settings.max_starting),
            capacity=capacity,
            priority_seconds=settings.priority_seconds,
            grant=admission.grant,
        )
        self.watch = Watch(
            self.book,
            self.environment,
            self.queue,
            scan=settings.scan_seconds,
            stalled=settings.stalled_after_seconds,
        )
        self.control = Control(self.book, self.environment, self.queue, self.watch, self.get)
        self.batches = Batches(self.book, self.queue, self.control)
        self.aliases = Aliases(self.book)
        self._acceptance = Acceptance(
            self.book,
            aliases=self.aliases,
            key_seconds=settings.idempotency_seconds,
            find=self.get,
            admit=admission.check,
            accepted=self._accepted,
        )
        self.queue.cancel = lambda *ending: self._background.job(self.control.cancel_unstarted(*ending))
        self.queue.due = lambda tasks: self._background.job(self.control.make_due(tasks))
        self._removal = Removal(self.book, self.environment, self.control, self._background)
        self.templates = Templates(self.book, settings.templates_dir)
        self.drain = Drain(self.book, self.queue)
        self.disk = Disk(self.book, self.environment, self.queue, settings)
        self.history = History(
            StateDirectory(settings.state_dir).history,
            self.clock,
            tasks=lambda: census(self.book, self.queue),
            directory=settings.state_dir,
        )
        self.leftovers = Leftovers(self.book, self.environment)
        self.retention = Retention(self.book, settings, self.disk, self._removal.remove)

    async def stop_serving(self) -> None:
        """Let go of everything. Tasks go on."""
        await self._background.stop()
        await self.tokens.note_uses()
        self.queue.close()
        await self.environment.close()
        await asyncio.to_thread(self.store.close)

    async def _recover(self, launched: list[Task]) -> None:
        self.examined = await examine(launched, self.book, self.queue, self.watch)
        self.recovered.set()

    def require_ready(self) -> None:
        """Raises Unavailable until every task of an earlier daemon has been examined."""
        if not self.recovered.is_set():
            raise Unavailable("the daemon is examining the tasks of its predecessor")

    # -- accepting

    async def submit(
        self,
        spec: Spec,
        *,
        origin: str = "v1",
        key: str | None = None,
        template: str | None = None,
        token: str = ADMIN,
    ) -> Accepted:
        """Accept a task. When this returns, it is on stable storage. Raises InvalidRequest, StorageFull, Conflict."""
        return await self._acceptance.task(spec, origin=origin, key=key, template=template, token=token)

    async def submit_batch(
        self, order: BatchOrder, *, origin: str = "v1", key: str | None = None, token: str = ADMIN
    ) -> tuple[str, bool]:
        """Accept a batch, whole or not at all; returns its id, and whether an earlier request with the same key had
        made it. Raises InvalidRequest, StorageFull, Conflict."""
        return await self._acceptance.batch(order, origin=origin, key=key, token=token)

    def check(self, spec: Spec, token: str = ADMIN) -> None:
        """Whether this server could take a task, for the holder of a token. Asks engines and reads files: it blocks.
        Raises InvalidRequest."""
        self._admission.check(spec, "", token)

    def expand(self, body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """A task's body with the template that it names put in, and the name of that. Raises InvalidRequest."""
        return self.templates.expand(body)

    def _accepted(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self.queue.add(task)
        self.queue.fill()

    # -- reading

    def get(self, task_id: str) -> Task:
        """The task with this id, or with the only id that begins so. Raises NotFound."""
        task = self.book.active.get(task_id) or self.store.get(task_id)
        if task is None and len(task_id) < 16 and _PREFIX.fullmatch(task_id):
            ids = self.store.ids_like(task_id, 2)
            if len(ids) > 1:
                raise NotFound(f"more than one task has an id that begins with {task_id}")
            task = self.get(ids[0]) if ids else None
        if task is None or task.deleted or task.id in self._removal.leaving:
            raise NotFound(f"there is no task {task_id[:80]!r}")
        return task

    def by_seq(self, seq: int, origin: str) -> Task:
        """The task with this place in the order of acceptance, of those that came in by a surface. Raises NotFound."""
        stored = self.store.by_seq(seq)
        if stored is None or stored.record.origin != origin:
            raise NotFound(f"there is no task {seq}")
        return self.get(stored.id)

    async def page(self, query: Query) -> list[Task]:
        """A page of tasks, those in memory and those in the store, in the order of acceptance."""
        return await list_tasks(self.book, query)

    async def wait(self, task_id: str, seconds: float) -> Task:
        """The task as it is when it is over, or when the time is."""
        task = self.get(task_id)
        await self.book.wait(task.id, seconds)
        return self.get(task.id)

    # -- removing

    async def delete(self, task_id: str) -> None:
        """Forget a task. One that is active is hidden at once, stopped, and removed when it is over. Raises Conflict
        where other tasks wait for its end, and StorageFull."""
        await self._removal.delete(self.get(task_id))

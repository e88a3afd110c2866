"""The notifier: sends what stands in the outbox, until each receiver has it or is given up.

It keeps nothing in memory that matters: what is due is read from the store, and what came of it is written there. So
a message is sent at least once, wherever the daemon dies. One that dies between the receiver's answer and its own note
of it makes the next one send again; the id tells the receiver.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from task_runner.errors import FieldError, NotFound, TaskRunnerError
from task_runner.lib.clock import stamp
from task_runner.model.spec import Spec
from task_runner.service import outbox, when
from task_runner.service.book import Book
from task_runner.service.outbox import GONE, Answer, Message
from task_runner.service.secrets import Secrets
from task_runner.service.statements import Op, StoredEvent
from task_runner.service.task import Record, Task

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: seconds for one try, from the look-up of the name to the answer's head
TIMEOUT = 10.0
#: seconds between two looks at the outbox, where nothing says that there is something in it
IDLE = 10.0
#: bytes of an answer that are read, for the receiver's sake, before the connection is closed
POLITE = 65_536


class Notifier:
    """``allow``: patterns of host names (None: any). ``connections``: messages on their way at once; those to one host
    take at most a quarter, so that a host that does not answer does not hold up the others."""

    def __init__(
        self, book: Book, secrets: Secrets, *, allow: Sequence[str] | None, give_up_seconds: float, connections: int
    ) -> None:
        self._book = book
        self._secrets = secrets
        self._allow = allow
        self._give_up_seconds = give_up_seconds
        self._connections = connections
        self._wake = asyncio.Event()
        #: queues with a message on its way, or with one of which the store has not yet taken what came of it
        self._busy: set[tuple[str, int]] = set()
        #: messages on their way, by host
        self._under_way: Counter[str] = Counter()
        self._jobs: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None
        #: since the daemon's start
        self.delivered = self.failed = self.gave_up = 0

    # -- what the service asks

    def check(self, spec: Spec, _token: str = "") -> list[FieldError]:
        """What is wrong with a spec's webhooks."""
        faults = [(index, _fault(webhook.url, self._allow)) for index, webhook in enumerate(spec.notify)]
        return [FieldError(f"notify.{index}.url", fault) for index, fault in faults if fault is not None]

    def messages(self, task: Task, record: Record, event: StoredEvent) -> list[Op]:
        """The statements that put into the outbox what a change is worth telling; to be written at once."""
        ops = outbox.messages(task, record, event)
        if ops:
            self._wake.set()
        return ops

    def of_task(self, task_id: str) -> list[Message]:
        """All that a task has had to tell, oldest first."""
        return [outbox.message_of(row) for row in self._book.store.read(outbox.of_task(task_id))]

    def waiting(self) -> int:
        """How many messages are still to be sent."""
        return int(self._book.store.read(outbox.waiting())[0][0])

    async def redeliver(self, task_id: str, seq: int) -> Message:
        """Send a message once more, or now instead of later. Raises NotFound, StorageFull."""
        message = self._find(task_id, seq)
        await self._book.write(outbox.send_again(message, self._book.now()))
        self._wake.set()
        return self._find(task_id, seq)

    def _find(self, task_id: str, seq: int) -> Message:
        for message in self.of_task(task_id):
            if message.seq == seq:
                return message
        raise NotFound(f"the task has no notification {seq}")

    # -- sending

    async def run(self) -> None:
        """Send what is due, for ever."""
        try:
            while True:
                told, pause = self._wake.is_set(), IDLE
                self._wake.clear()
                try:
                    pause = await self._send_due(told)
                except Exception:
                    log.exception("looking into the outbox failed")  # not expected; the next look is not far
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for job in self._jobs:
                job.cancel()
            await asyncio.gather(*self._jobs, return_exceptions=True)
            if self._http is not None:
                await self._http.aclose()

    async def _send_due(self, told: bool) -> float:
        """Send what can be sent now; returns the seconds until there may be more."""
        if told:
            await self._after_writes()
        free = self._connections - self._under_way.total()
        if free <= 0:
            return IDLE  # whatever ends first wakes us
        store, now = self._book.store, self._book.clock.time()
        passed_over = False
        for look_up in outbox.due(now, self._full_hosts(), free + len(self._busy)):
            for row in await asyncio.to_thread(store.read, look_up):
                message = outbox.message_of(row)
                if message.host in self._full_hosts():
                    passed_over = True
                elif self._under_way.total() < self._connections:
                    self._begin(message)
        if passed_over:
            return 0.0  # behind those of a host that has become full there may be others
        following = store.read(outbox.next_due(now))[0][0]
        return IDLE if following is None else min(IDLE, max(0.01, (when.parse(following) or now) - now))

    async def _after_writes(self) -> None:
        """Return when what had been handed to the store before is in it: its thread takes one after the other."""
        try:
            await self._book.store.write([])
        except TaskRunnerError:
            pass  # the look into the outbox shows what there is

    def _full_hosts(self) -> list[str]:
        share = max(1, self._connections // 4)
        return [host for host, count in self._under_way.items() if count >= share]

    def _begin(self, message: Message) -> None:
        queue = (message.task_id, message.hook)
        if queue in self._busy:
            return
        self._busy.add(queue)
        self._under_way[message.host] += 1
        job = asyncio.ensure_future(self._deliver(message))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _deliver(self, message: Message) -> None:
        try:
            answer = await self._post(message)
        finally:
            self._under_way[message.host] -= 1
            self._under_way += Counter()  # forgets the hosts with none
        self._wake.set()
        await self._settle(message, answer)
        self._busy.discard((message.task_id, message.hook))
        self._wake.set()

    async def _settle(self, message: Message, answer: Answer) -> None:
        """Note what came of a try. Until that is stored the queue stands still: else it would be sent at once again."""
        now, chance = self._book.clock.time(), random.random()  # noqa: S311
        again = outbox.again_at(message, answer, now=now, give_up_seconds=self._give_up_seconds, chance=chance)
        self._count(message, answer, again)
        ops = outbox.settle(message, answer, again=again, at=stamp(now))
        while True:
            try:
                await self._book.write(ops)
            except TaskRunnerError:
                await asyncio.sleep(IDLE)
            else:
                return

    # -- one try

    async def _post(self, message: Message) -> Answer:
        fault = _fault(message.url, self._allow)
        if fault is not None:
            return Answer(error=fault, hopeless=True)
        try:
            headers = self._headers(message)
        except NotFound as error:
            return Answer(error=str(error))
        try:
            status = await self._ask(message.url, headers, message.body.encode())
        except TimeoutError:
            return Answer(error=f"no answer within {TIMEOUT:g} s")
        except Exception as error:  # a name that does not resolve, a broken connection, an answer that is not HTTP
            return Answer(error=f"{type(error).__name__}: {error}"[:300])
        if 200 <= status < 300:
            return Answer(status=status)
        reason = "the receiver wants no more (410)" if status == GONE else f"answered {status}, not 2xx"
        return Answer(status=status, error=reason, hopeless=status == GONE)

    def _headers(self, message: Message) -> dict[str, str]:
        at = str(int(self._book.clock.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "task-runner",
            "X-Task-Runner-Delivery": json.loads(message.body)["id"],
            "X-Task-Runner-Timestamp": at,
        }
        if message.secret is not None:
            key = self._secrets.value(message.secret)
            headers["X-Task-Runner-Signature"] = f"sha256={sign(key, at, message.body.encode())}"
        return headers

    async def _ask(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer. Raises whatever the library raises."""
        if self._http is None:
            import httpx  # a large library, and many daemons have no webhooks to tell

            # each message has a connection of its own: one kept open may be closed under the next message;
            # and one limit of time over all of a try, below
            limits = httpx.Limits(max_keepalive_connections=0)
            self._http = httpx.AsyncClient(limits=limits, timeout=None)  # noqa: S113
        status = None
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._http.stream("POST", url, content=body, headers=headers) as response:
                    status = response.status_code
                    read = 0
                    async for chunk in response.aiter_raw():
                        read += len(chunk)
                        if read > POLITE:
                            break
        except Exception:
            if status is None:
                raise
        return status

    def _count(self, message: Message, answer: Answer, again: str | None) -> None:
        if answer.error is None:
            self.delivered += 1
            return
        self.failed += 1
        if again is None:
            self.gave_up += 1
            log.warning(
                "task %s: notification %d is given up after %d tries: %s",
                message.task_id,
                message.seq,
                message.tries + 1,
                answer.error,
                extra={"action": "notification_given_up", "task": message.task_id},
            )


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature that a receiver compares: HMAC-SHA256 over the time of sending, a dot, and the body."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _fault(url: str, allow: Sequence[str] | None) -> str | None:
    """What is wrong with a webhook's address. Parsed as the sender parses it: two readings of a URL are a way around
    every check."""
    import httpx

    try:
        parsed = httpx.URL(url)
        scheme, host = parsed.scheme, parsed.host.lower().rstrip(".")
    except (httpx.InvalidURL, ValueError) as error:
        return f"is no URL: {error}"
    if scheme not in ("http", "https"):
        return "expected an http or https URL"
    if not host:
        return "the URL names no host"
    if allow is not None and not any(host_matches(pattern, host) for pattern in allow):
        return f"the host {host[:100]!r} is not one that this server may notify (notify_allow)"
    return None


def host_matches(pattern: str, host: str) -> bool:
    """`*` stands for any characters; everything else for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), host) is not None

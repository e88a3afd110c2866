"""The outbox: what webhooks are to be told, as rows of the store. Pure: what to write, and how to read it.

Rule 1: a message is written in the transaction of the change that it tells of. It is there exactly if the change is.
Rule 2: whether there was a change is asked of the task's row, in the same transaction and before that row takes the
        change. A daemon that takes up running tasks sees each run, as if for the first time; the row knows better.
Rule 3: the messages of one task for one webhook are a queue. Only its head is ever sent, and while that is to wait,
        the whole queue is. So `next_at` is one for all of a queue's messages that are still to be sent.
Rule 4: a message needs nothing but its row: it outlives its task, and goes when both are settled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from task_runner.lib.backoff import growing, jittered
from task_runner.lib.clock import stamp
from task_runner.model.codec import to_json
from task_runner.model.terms import NotifyOn, Webhook
from task_runner.service.statements import Op, StoredEvent
from task_runner.service.task import Record, Stall, Task, stall_of

#: seconds before a message is sent again: doubled each time, up to the last; up to a quarter more or less
FIRST_DELAY, LAST_DELAY, JITTER = 1.0, 900.0, 0.25
#: the answer of a receiver that wants no more
GONE = 410

_COLUMNS = (
    "seq, task_id, hook, url, secret, host, queued_at, body, tries, next_at, delivered_at, last_status, last_error"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One row."""

    seq: int
    task_id: str
    #: which of the spec's webhooks
    hook: int
    url: str
    #: the name of the secret it is signed with
    secret: str | None
    host: str
    #: since when it is to be sent; a redelivery counts anew
    queued_at: str
    body: str
    tries: int
    #: none: delivered, or given up
    next_at: str | None
    delivered_at: str | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of sending a message once."""

    #: of HTTP; none: there was no answer
    status: int | None = None
    #: none: the receiver has it
    error: str | None = None
    #: sending it again makes no sense
    hopeless: bool = False


# -- writing messages


def messages(task: Task, record: Record, event: StoredEvent) -> list[Op]:
    """The statements for what this change is worth telling; they stand before the one that changes the task's row.

    ``task`` still has its earlier record; a new task has this very one.
    """
    if not task.mentions("notify"):
        return []
    ops = list[Op]()
    again = record.attempt != task.record.attempt
    stall = stall_of(task, record)
    entered = (record.outcome or record.state).value
    for hook, webhook in enumerate(task.spec.notify):
        wanted = {each.value for each in webhook.on}
        if entered in wanted:
            text = _body(task, record, event, hook, entered, stall)
            ops.append(_insert(task, hook, webhook, event, text, "1" if again else _STATE_IS_NEW, record.state.value))
        if NotifyOn.STALLED.value in wanted and stall is not None:
            text = _body(task, record, event, hook, NotifyOn.STALLED.value, stall)
            ops.append(_insert(task, hook, webhook, event, text, _STALL_IS_NEW, stall.since))
    return ops


_STATE_IS_NEW = "(SELECT state FROM tasks WHERE id = :task) IS NOT :known"
_STALL_IS_NEW = (
    "NOT EXISTS (SELECT 1 FROM outbox WHERE task_id = :task AND hook = :hook"
    " AND json_extract(body, '$.type') = 'stalled' AND json_extract(body, '$.task.stalled.since') = :known)"
)


def _insert(
    task: Task, hook: int, webhook: Webhook, event: StoredEvent, body: str, condition: str, known: str
) -> Op:
    values = {
        "task": task.id,
        "hook": hook,
        "url": webhook.url,
        "secret": webhook.secret,
        "host": urlsplit(webhook.url).netloc.rpartition("@")[2].lower(),
        "at": event.at,
        "body": body,
        "known": known,
    }
    columns = "task_id, hook, url, secret, host, queued_at, next_at, body"
    given = ":task, :hook, :url, :secret, :host, :at, :at, :body"
    return (f"INSERT INTO outbox ({columns}) SELECT {given} WHERE {condition}", values)


def _body(task: Task, record: Record, event: StoredEvent, hook: int, kind: str, stall: Stall | None) -> str:
    """What is sent: the facts of that moment. The id is the same however often it is sent, and no other's."""
    status = record.status
    known = f"{task.id}/{record.created_at}/{event.seq}/{event.at}/{hook}/{kind}"
    value: dict[str, Any] = {
        "id": hashlib.sha256(known.encode()).hexdigest()[:32],
        "type": kind,
        "at": event.at,
        "task": {
            "taskId": task.id,
            "name": task.name,
            "batch": task.batch,
            "entity": task.entity,
            "tags": task.tags,
            "metadata": task.spec.metadata,
            "state": record.state.value,
            "outcome": record.outcome and record.outcome.value,
            "exitCode": status.exit_code if status else None,
            "signal": status.signal if status else None,
            "attempt": record.attempt,
            "error": record.error,
            "stalled": to_json(stall),
            "createdAt": record.created_at,
            "startedAt": status.started_at if status else None,
            "finishedAt": record.finished_at,
        },
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- what became of them


def again_at(message: Message, answer: Answer, *, now: float, give_up_seconds: float, chance: float) -> str | None:
    """When to send it again; None: it is delivered, or given up. ``chance`` is from 0 to 1: how much of the jitter is
    used. What has waited too long, because the daemon was down or for its turn, has still been tried once."""
    if answer.error is None or answer.hopeless or message.queued_at < stamp(now - give_up_seconds):
        return None
    return stamp(now + delay(message.tries + 1, chance))


def settle(message: Message, answer: Answer, *, again: str | None, at: str) -> list[Op]:
    """The statements for what came of a try, which ended ``at``."""
    values = {
        "seq": message.seq,
        "task": message.task_id,
        "hook": message.hook,
        "status": answer.status,
        "error": answer.error,
        "again": again,
        "delivered": at if answer.error is None else None,
        "queue": again or at,
    }
    known = "tries = tries + 1, delivered_at = :delivered, last_status = :status, last_error = :error"
    ops: list[Op] = [
        (f"UPDATE outbox SET {known}, next_at = :again WHERE seq = :seq", values),  # noqa: S608
        ("UPDATE outbox SET next_at = :queue WHERE task_id = :task AND hook = :hook AND next_at IS NOT NULL", values),
    ]
    if again is None:
        ops.append(
            ("DELETE FROM outbox WHERE seq = :seq AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = :task)", values)
        )
    return ops


def delay(tries: int, chance: float) -> float:
    """Seconds until a message that has been sent so often in vain is sent again."""
    return jittered(growing(FIRST_DELAY, 2.0, LAST_DELAY, tries), JITTER, chance)


def send_again(message: Message, at: str) -> list[Op]:
    """The statements that have a message sent anew, and now."""
    values = {"seq": message.seq, "task": message.task_id, "hook": message.hook, "at": at}
    return [
        ("UPDATE outbox SET queued_at = :at, next_at = :at, delivered_at = NULL WHERE seq = :seq", values),
        ("UPDATE outbox SET next_at = :at WHERE task_id = :task AND hook = :hook AND next_at IS NOT NULL", values),
    ]


# -- look-ups


def due(now: float, hosts: Collection[str], limit: int) -> list[Op]:
    """The heads of queues whose time has come, not those for some hosts; the longest due first.

    A time further off than any that is ever set means that the clock has been set back: that has come, too. It is asked
    for apart, for so each look-up reads one stretch of the index in its order and stops at the limit.
    """
    marks = ",".join("?" * len(hosts))
    before_it = "e.task_id = m.task_id AND e.hook = m.hook AND e.seq < m.seq AND e.next_at IS NOT NULL"
    first = f"NOT EXISTS (SELECT 1 FROM outbox AS e WHERE {before_it})"  # noqa: S608
    look_up = (
        f"SELECT {_COLUMNS} FROM outbox AS m WHERE next_at %s ? AND host NOT IN ({marks}) AND {first}"  # noqa: S608
        " ORDER BY next_at, seq LIMIT ?"
    )
    return [
        (look_up % "<=", (stamp(now), *hosts, limit)),
        (look_up % ">", (stamp(now + 2 * LAST_DELAY), *hosts, limit)),
    ]


def next_due(now: float) -> Op:
    """When the next is to be sent, of those that are to wait."""
    return ("SELECT min(next_at) FROM outbox WHERE next_at > ?", (stamp(now),))


def waiting() -> Op:
    """How many are still to be sent."""
    return ("SELECT count(*) FROM outbox WHERE next_at IS NOT NULL", ())


def of_task(task_id: str) -> Op:
    """All that a task has, in the order of writing."""
    return (f"SELECT {_COLUMNS} FROM outbox WHERE task_id = ? ORDER BY seq", (task_id,))  # noqa: S608


def message_of(row: Any) -> Message:
    """From a row of the look-ups."""
    return Message(**dict(zip(Message.__dataclass_fields__, row, strict=True)))


def message_json(message: Message) -> dict[str, Any]:
    """As `/v1` shows it."""
    body = json.loads(message.body)
    state = "pending" if message.next_at is not None else "gave_up" if message.delivered_at is None else "delivered"
    return {
        "n": message.seq,
        "id": body["id"],
        "type": body["type"],
        "at": body["at"],
        "hook": message.hook,
        "url": message.url,
        "state": state,
        "tries": message.tries,
        "nextAt": message.next_at,
        "deliveredAt": message.delivered_at,
        "lastStatus": message.last_status,
        "lastError": message.last_error,
    }

"""Every request of `/v1` as a value, so that a client is left with sending it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from task_runner.errors import InvalidRequest

#: seconds in which the daemon has to answer what it answers at once
PROMPT = 30.0
#: the longest ``wait`` that is asked for in one request
LONGEST_WAIT = 60.0

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    #: sent as JSON; None: no body at all
    body: Mapping[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: may be sent again when it is not known whether it arrived
    repeatable: bool = True
    #: seconds without a byte of the answer
    timeout: float = PROMPT


def submit(body: Mapping[str, Any], key: str | None) -> Call:
    headers = {} if key is None else {"Idempotency-Key": key}
    return Call(method="POST", path="/v1/tasks", body=body, headers=headers, repeatable=key is not None)


def get(task_id: str, wait: float | None) -> Call:
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return Call(method="GET", path=_path(task_id), query=query, timeout=PROMPT + (wait or 0))


def listing(filters: Mapping[str, Value | Iterable[str] | None]) -> Call:
    query: list[tuple[str, str]] = []
    for name, value in filters.items():
        if isinstance(value, bool):
            query.append((name, "true" if value else "false"))
        elif isinstance(value, (str, int, float)):
            query.append((name, str(value)))
        elif value is not None:
            query += [(name, each) for each in value]
    return Call(method="GET", path="/v1/tasks", query=query)


def following(link: str) -> Call:
    """The page that a Link header names. Its host is not believed: the token goes to one place only."""
    parts = urlsplit(link)
    return Call(method="GET", path=f"{parts.path}?{parts.query}")


def stop(task_id: str, signal: str | None, grace: float | None, wait: float | None) -> Call:
    wishes = {"signal": signal, "graceSeconds": grace}
    body = {name: value for name, value in wishes.items() if value is not None}
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return _act(task_id, "stop", body or None, query=query, timeout=PROMPT + (wait or 0))


def pause(task_id: str) -> Call:
    return _act(task_id, "pause")


def resume(task_id: str) -> Call:
    return _act(task_id, "resume")


def send_signal(task_id: str, name: str) -> Call:
    return _act(task_id, "signal", {"signal": name}, repeatable=False)


def retry(task_id: str) -> Call:
    return _act(task_id, "retry", repeatable=False)


def delete(task_id: str) -> Call:
    return Call(method="DELETE", path=_path(task_id), repeatable=False)


def output(task_id: str, *, offset: int, tail: int | None, attempt: int, follow: bool, timeout: float) -> Call:
    start = ("offset", str(offset)) if tail is None else ("tail", str(tail))
    query = [start, ("attempt", str(attempt)), ("follow", "true" if follow else "false")]
    return Call(method="GET", path=f"{_path(task_id)}/output", query=query, timeout=timeout)


def node() -> Call:
    return Call(method="GET", path="/v1/node")


def drain(draining: bool) -> Call:
    return Call(method="POST", path=f"/v1/node/{'drain' if draining else 'undrain'}")


def health() -> Call:
    return Call(method="GET", path="/health")


def _path(task_id: str) -> str:
    if not task_id.strip("."):
        raise InvalidRequest.at("id", f"{task_id!r} is not the id of a task")
    return f"/v1/tasks/{quote(task_id, safe='')}"


def _act(
    task_id: str,
    verb: str,
    body: Mapping[str, Any] | None = None,
    *,
    query: list[tuple[str, str]] | None = None,
    repeatable: bool = True,
    timeout: float = PROMPT,
) -> Call:
    path = f"{_path(task_id)}/{verb}"
    return Call(method="POST", path=path, query=query or [], body=body, repeatable=repeatable, timeout=timeout)

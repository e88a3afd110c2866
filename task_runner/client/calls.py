"""Every request of `/v1` as a value, so that a client is left with sending it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from task_runner.errors import InvalidRequest

#: seconds in which the daemon has to answer what it answers at once, unless a client says otherwise
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
    #: sent as it is
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: may be sent again when it is not known whether it arrived
    repeatable: bool = True
    #: it is repeatable because of its key, which the daemon does not remember for ever
    keyed: bool = False
    #: seconds that the daemon was asked to wait before it answers
    wait: float = 0.0
    #: seconds without a byte of the answer, where that has nothing to do with how prompt the daemon is
    silence: float | None = None


def submit(body: Mapping[str, Any], key: str) -> Call:
    return Call(method="POST", path="/v1/tasks", body=body, headers={"Idempotency-Key": key}, keyed=True)


def get(task_id: str, wait: float | None) -> Call:
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return Call(method="GET", path=_path(task_id), query=query, wait=wait or 0.0)


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
    return _stop(_path(task_id), signal, grace, wait)


def pause(task_id: str) -> Call:
    return _act(task_id, "pause")


def resume(task_id: str) -> Call:
    return _act(task_id, "resume")


def send_signal(task_id: str, name: str) -> Call:
    return _act(task_id, "signal", {"signal": name}, repeatable=False)


def retry(task_id: str) -> Call:
    return _act(task_id, "retry", repeatable=False)


def notifications(task_id: str) -> Call:
    return Call(method="GET", path=f"{_path(task_id)}/notifications")


def redeliver(task_id: str, n: int) -> Call:
    return _act(task_id, f"notifications/{n:d}/redeliver")


def secrets() -> Call:
    return Call(method="GET", path="/v1/secrets")


def reschedule(task_id: str, at: float | str | None) -> Call:
    return Call(method="PATCH", path=_path(task_id), body={"executeAt": at})


def send_input(task_id: str, data: bytes, offset: int | None, end: bool) -> Call:
    query = [] if offset is None else [("offset", str(offset))]
    if end:
        query.append(("end", "true"))
    return Call(
        method="POST",
        path=f"{_path(task_id)}/input",
        query=query,
        content=data,
        headers={"Content-Type": "application/octet-stream"},
        repeatable=offset is not None,
    )


def attempt(task_id: str, number: int) -> Call:
    return Call(method="GET", path=f"{_path(task_id)}/attempts/{number:d}")


def delete(task_id: str) -> Call:
    return Call(method="DELETE", path=_path(task_id), repeatable=False)


def output(
    task_id: str,
    *,
    offset: int,
    tail: int | None,
    attempt: int,
    follow: bool,
    silence: float,
    stream: str | None = None,
    gaps: str | None = None,
) -> Call:
    start = ("offset", str(offset)) if tail is None else ("tail", str(tail))
    query = [start, ("attempt", str(attempt)), ("follow", "true" if follow else "false")]
    query += [(name, value) for name, value in (("stream", stream), ("gaps", gaps)) if value is not None]
    return Call(method="GET", path=f"{_path(task_id)}/output", query=query, silence=silence)


def events(task_id: str | None, after: int | None, silence: float) -> Call:
    path = "/v1/events" if task_id is None else f"{_path(task_id)}/events"
    headers = {"Accept": "text/event-stream"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    return Call(method="GET", path=path, headers=headers, silence=silence)


def submit_batch(body: Mapping[str, Any], key: str) -> Call:
    return Call(method="POST", path="/v1/batches", body=body, headers={"Idempotency-Key": key}, keyed=True)


def batch(batch_id: str, wait: float | None) -> Call:
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return Call(method="GET", path=_batch_path(batch_id), query=query, wait=wait or 0.0)


def batches(limit: int | None) -> Call:
    return Call(method="GET", path="/v1/batches", query=[] if limit is None else [("limit", str(limit))])


def batch_results(batch_id: str) -> Call:
    return Call(method="GET", path=f"{_batch_path(batch_id)}/results")


def stop_batch(batch_id: str, signal: str | None, grace: float | None, wait: float | None) -> Call:
    return _stop(_batch_path(batch_id), signal, grace, wait)


def hold_batch(batch_id: str, paused: bool) -> Call:
    return Call(method="POST", path=f"{_batch_path(batch_id)}/{'pause' if paused else 'resume'}")


def files(task_id: str, path: bytes, *, recursive: bool) -> Call:
    query = [("list", "true"), *([("recursive", "true")] if recursive else [])]
    return Call(method="GET", path=_files(task_id, path), query=query)


def file(task_id: str, path: bytes, offset: int, tag: str | None) -> Call:
    """``tag``: what has come before ``offset`` is of the file that this ETag names."""
    headers = {} if tag is None else {"Range": f"bytes={offset}-", "If-Range": tag}
    return Call(method="GET", path=_files(task_id, path), headers=headers)


def archive(task_id: str, path: bytes, kind: str) -> Call:
    return Call(method="GET", path=_files(task_id, path), query=[("archive", kind)])


def explain(task_id: str) -> Call:
    return Call(method="GET", path=f"{_path(task_id)}/explain")


def templates() -> Call:
    return Call(method="GET", path="/v1/templates")


def template(name: str) -> Call:
    return Call(method="GET", path=_template_path(name))


def put_template(name: str, body: Mapping[str, Any]) -> Call:
    return Call(method="PUT", path=_template_path(name), body=body)


def delete_template(name: str) -> Call:
    return Call(method="DELETE", path=_template_path(name), repeatable=False)


def node(wait: float | None = None) -> Call:
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return Call(method="GET", path="/v1/node", query=query, wait=wait or 0.0)


def node_tasks(task_ids: Iterable[str] = ()) -> Call:
    return Call(method="GET", path="/v1/node/tasks", query=[("task", each) for each in task_ids])


def history(hours: int) -> Call:
    return Call(method="GET", path="/v1/node/history", query=[("hours", str(hours))])


def timeline(begin: str | None, end: str | None, limit: int | None) -> Call:
    given = {"from": begin, "to": end, "limit": None if limit is None else str(limit)}
    query = [(name, value) for name, value in given.items() if value is not None]
    return Call(method="GET", path="/v1/timeline", query=query)


def drain(draining: bool) -> Call:
    return Call(method="POST", path=f"/v1/node/{'drain' if draining else 'undrain'}")


def tokens() -> Call:
    return Call(method="GET", path="/v1/tokens")


def create_token(name: str, scopes: Sequence[str], expires_in: float | None) -> Call:
    body = {"name": name, "scopes": scopes, "expiresInSeconds": expires_in}
    return Call(method="POST", path="/v1/tokens", body=body, repeatable=False)


def revoke_token(name: str) -> Call:
    return Call(method="DELETE", path=f"/v1/tokens/{_quoted(name, 'token')}", repeatable=False)


def audit(limit: int | None) -> Call:
    return Call(method="GET", path="/v1/audit", query=[] if limit is None else [("limit", str(limit))])


def health() -> Call:
    return Call(method="GET", path="/health")


def _path(task_id: str) -> str:
    return f"/v1/tasks/{_quoted(task_id, 'task')}"


def _template_path(name: str) -> str:
    return f"/v1/templates/{_quoted(name, 'template')}"


def _batch_path(batch_id: str) -> str:
    return f"/v1/batches/{_quoted(batch_id, 'batch')}"


def _quoted(name: str, kind: str) -> str:
    if not name.strip("."):
        raise InvalidRequest.at("id", f"{name!r} is not the id of a {kind}")
    return quote(name, safe="")


def _files(task_id: str, path: bytes) -> str:
    parts = [quote(part, safe="") for part in path.split(b"/") if part not in (b"", b".")]
    if ".." in parts:
        raise InvalidRequest.at("path", "'..' leads out of the working directory")
    return "/".join([f"{_path(task_id)}/files", *parts])


def _act(task_id: str, verb: str, body: Mapping[str, Any] | None = None, *, repeatable: bool = True) -> Call:
    return Call(method="POST", path=f"{_path(task_id)}/{verb}", body=body, repeatable=repeatable)


def _stop(path: str, signal: str | None, grace: float | None, wait: float | None) -> Call:
    wishes = {"signal": signal, "graceSeconds": grace}
    body = {name: value for name, value in wishes.items() if value is not None}
    query = [] if wait is None else [("wait", f"{wait:g}")]
    return Call(method="POST", path=f"{path}/stop", query=query, body=body or None, wait=wait or 0.0)

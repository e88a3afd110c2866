"""The gate: every request passes it before routing, and is refused unless there is a reason to let it in.

Against strangers: a token. What it allows is compared with what the route needs, behind the gate (access.py).
Against a browser that a stranger controls: the Host must be ours (DNS rebinding), an Origin must be our own (cross-site
requests), a write must be JSON (forms cannot send it).
Against floods: a limit on the body, counted while it arrives.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from task_runner.api.access import SAFE_METHODS
from task_runner.api.surface import Refusal, Surface
from task_runner.api.web import cookies
from task_runner.api.witness import Witness
from task_runner.errors import Refused, TooLarge
from task_runner.lib.clock import stamp
from task_runner.lib.taskdir import read_control
from task_runner.service.audit import AuditLog
from task_runner.service.sessions import Session, Sessions
from task_runner.service.tokens import ANYBODY, STRANGER, Token, Tokens

BYTES = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
#: bytes of the body of one who has shown no token: he logs in, and no more
MOST_OF_A_STRANGER = 16 * 1024


def admin_token(path: str) -> str:
    """The token of the state directory, made at first start. Raises Refused."""
    if os.path.lexists(path):
        return _read_token(path)
    token = secrets.token_hex(32)  # nothing that a command line takes for an option, as "-x…"
    # complete before it has its name: a crash in between leaves no empty token
    fresh = f"{path}.{os.getpid()}"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, path)
    return token


def _read_token(path: str) -> str:
    token = read_control(path).decode("ascii", "replace").strip()
    if len(token) < 16:
        raise Refused(f"{path} holds no usable token; remove it to have a new one made")
    if os.stat(path).st_mode & 0o077:
        raise Refused(f"{path} can be read by others: chmod 600 it, or remove it to have a new one made")
    return token


@dataclass(frozen=True, slots=True)
class Entry:
    """Who may enter a surface."""

    tokens: Tokens
    #: no token is asked for: whoever can connect from this machine
    free: bool = False
    #: and from others
    anybody: bool = False
    #: those who have logged in to the web page, where this surface has one
    sessions: Sessions | None = None


class Gate:
    """ASGI middleware, around one surface."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        surface: Surface,
        entry: Entry,
        allowed_hosts: Iterable[str],
        max_body_bytes: int,
        audit: AuditLog | None = None,
    ) -> None:
        self._app = app
        self._surface = surface
        self._entry = entry
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in allowed_hosts)}
        self._max_body = max_body_bytes
        self._witness = Witness(audit, surface, entry.tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here speaks that
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token, refusal = self._identify(scope, headers)
        session = self._session(headers) if refusal is not None or token is None else None
        if session is not None:
            token, refusal = session.token, self._check_session(scope["method"], headers)
        most = self._max_body if token is not None else min(self._max_body, MOST_OF_A_STRANGER)
        refusal = self._check(scope, headers) or refusal
        refusal = refusal or self._check_body(scope["method"], scope["path"], headers, most)
        scope.setdefault("state", {}).update(token=token, session=session)
        if refusal is not None:
            self._witness.refused(scope, refusal.status)
            await self._surface.answer(refusal)(scope, receive, send)
            return
        scope["state"]["token"] = token or STRANGER
        receive = self._counted(receive, most)
        if session is not None or "sec-fetch-dest" in headers:
            send = _as_data(send)
        ends = [each.ended for each in (token, session) if each is not None and each.ended is not None]
        if ends:
            receive = _until_ended(receive, ends)
        await self._witness.attend(self._app, scope, receive, send)

    def _identify(self, scope: Scope, headers: Headers) -> tuple[Token | None, Refusal | None]:
        """Whose request it is, and why he is not let in. Neither: what he asks for is open to all."""
        reason = self._surface.need
        if self._entry.free:
            if self._entry.anybody or _is_local(scope):
                return ANYBODY, None
        elif (given := self._surface.credential(headers)) is not None:
            tokens = self._entry.tokens
            token = tokens.find(given)
            if token is not None and not token.is_over(tokens.clock.time()):
                return token, None
            if token is not None:
                reason = f"the token {token.name!r} has expired, at {stamp(token.expires_at or 0)}"
        if self._surface.is_open(scope["path"], scope):
            return None, None
        return None, Refusal(401, reason, headers={"WWW-Authenticate": self._surface.challenge})

    def _session(self, headers: Headers) -> Session | None:
        """The login whose cookie a request shows. One that says itself whose it is (Authorization) shows none."""
        if self._entry.sessions is None or self._entry.free or "authorization" in headers or "cookie" not in headers:
            return None
        return self._entry.sessions.find(cookies.read(headers))

    def _check_session(self, method: str, headers: Headers) -> Refusal | None:
        """A browser sends the cookie for whoever asks it to: what changes something must come from our own page, and
        say so. What the two headers say is compared with our name in any case (`_check`)."""
        if method in SAFE_METHODS or headers.get("sec-fetch-site") == "same-origin" or "origin" in headers:
            return None
        return Refusal(403, "a change by cookie needs the header Origin, or Sec-Fetch-Site: same-origin")

    def _check(self, scope: Scope, headers: Headers) -> Refusal | None:
        """What is wrong with a request, whoever sends it."""
        if not self._is_own_host(scope, headers.get("host", "")):
            return Refusal(
                421, f"this daemon does not answer to the name {headers.get('host', '')[:100]!r} (allowed_hosts)"
            )
        if not _is_own_origin(headers) and not self._is_link(scope, headers):
            return Refusal(403, "requests from pages of other sites are refused")
        return None

    def _is_link(self, scope: Scope, headers: Headers) -> bool:
        """Whether somebody has followed a link to a page, which is not looked at from the site that has the link."""
        pages = self._surface.pages
        if scope["method"] not in SAFE_METHODS or "origin" in headers or pages is None:
            return False
        wanted = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        return wanted == ("navigate", "document") and pages.fullmatch(scope["path"]) is not None

    def _is_own_host(self, scope: Scope, host: str) -> bool:
        if scope.get("server") is not None and scope["server"][1] is None:
            return True  # a Unix socket: no name has led here
        name = host.rsplit(":", 1)[0] if host.rfind(":") > host.rfind("]") else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().rstrip(".") in self._hosts
        return True  # an address is nobody's to rebind

    def _check_body(self, method: str, path: str, headers: Headers, most: int) -> Refusal | None:
        if method in SAFE_METHODS:
            return None
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            return Refusal(413, self._too_large(most))
        if headers.get("content-encoding", "identity").lower() != "identity":
            return Refusal(415, "compressed bodies are not taken: leave out Content-Encoding")
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if (bytes_at := self._surface.takes_bytes) and bytes_at.fullmatch(path):
            # a page of another site cannot send this kind without asking first, and gets no permission
            return None if kind == BYTES else Refusal(415, f"a body must be {BYTES} here")
        if (forms_at := self._surface.takes_forms) and forms_at.fullmatch(path):
            return None if kind == FORM else Refusal(415, f"a body must be {FORM} here")
        has_body = length not in ("", "0") or "transfer-encoding" in headers
        if (has_body or kind) and kind != "application/json" and not kind.endswith("+json"):
            return Refusal(415, f"a body must be application/json, this is {kind[:80] or 'not said to be anything'}")
        return None

    def _too_large(self, most: int) -> str:
        why = "max_body_bytes" if most == self._max_body else "without a token"
        return f"the body is larger than {most} bytes ({why})"

    def _counted(self, receive: Receive, most: int) -> Receive:
        left = most

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(self._too_large(most))
            return message

        return counted


def _as_data(send: Send) -> Send:
    """For a browser: whatever is no page of ours, it neither runs nor takes for one, whoever has written it."""

    async def send_as_data(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
        await send(message)

    return send_as_data


def _until_ended(receive: Receive, ends: Sequence[asyncio.Event]) -> Receive:
    """Says that the client has gone when its token or its session ends: a stream stops, as for one that really has.

    Only while nothing is awaited but that: a body that is still coming is read in the usual way.
    """
    complete = False

    async def until_ended() -> Message:
        nonlocal complete
        if not complete:
            message = await receive()
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message
        news, over = asyncio.ensure_future(receive()), [asyncio.ensure_future(end.wait()) for end in ends]
        try:
            await asyncio.wait((news, *over), return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if any(end.done() for end in over) else news.result()
        finally:
            for each in (news, *over):
                each.cancel()

    return until_ended


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if not client or not client[0]:
        return True  # a Unix socket
    try:
        return bool(ipaddress.ip_address(client[0]).is_loopback)
    except ValueError:
        return bool(client[0] == "testclient")


def _is_own_origin(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.split("://", 1)[-1].lower() == headers.get("host", "").lower()

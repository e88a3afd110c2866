"""Fetching a file over HTTP: checked while it streams, taken up again where it broke off.

Rule 1: what was received counts only as part of one version of the file. It is taken up again with `If-Range` and the
        mark that the server gave that version (a strong ETag, or a Last-Modified older than the answer); without such
        a mark, and where the server sends it whole, it begins anew, and so does the hash.
Rule 2: a server is a stranger. It may send without end, send to another place, break off, or stall: sizes are counted
        while they come, redirections are few and lead to HTTP only, and what it says is shown as one line.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin

from task_runner.errors import ActionFailed
from task_runner.machines.web import for_anybody, opener, origin, prepared, split_user
from task_runner.machines.worktree import NewFile
from task_runner.model import urls

MAX_REDIRECTIONS = 10
_REDIRECTIONS = (301, 302, 303, 307, 308)
#: statuses of an answer that holds what was asked for
GOOD = frozenset(range(200, 300))
#: bytes taken from a connection at once
_PIECE = 1 << 18
#: seconds before a transfer is taken up again: the first time, and at most
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)

#: called with the bytes so far and, where it is known, how many there will be
Report = Callable[[int, int | None], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to fetch, and what it must be."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    statuses: frozenset[int] = GOOD
    #: take any certificate
    insecure: bool = False
    #: seconds without a byte
    timeout: float
    #: seconds for making a connection; none: as `timeout`
    connect: float | None = None
    #: in hexadecimal digits
    sha256: str | None = None
    max_bytes: int | None = None
    #: how often a transfer that broke off is taken up again
    resumes: int = 0


class _Broken(Exception):
    """The transfer broke off; it may be taken up again."""


def fetch(order: Order, file: NewFile, report: Report) -> tuple[int, str]:
    """Write what is at the URL into ``file``; returns its length and its sha256. Raises ActionFailed, OSError (of the
    file)."""
    return _Transfer(order, file, report).run()


class _Transfer:
    def __init__(self, order: Order, file: NewFile, report: Report) -> None:
        self._order = order
        self._file = file
        self._report = report
        self._shown = urls.shown(order.url)
        self._url, self._headers = prepared(order.url, order.headers)
        if order.body is not None and not any(name.lower() == "content-type" for name in order.headers):
            self._headers["Content-Type"] = "text/plain; charset=utf-8"
        self._opener = opener(insecure=order.insecure, connect=order.connect)
        self._begun = False
        self._validator: str | None = None
        self._restart()

    def _restart(self) -> None:
        self._done = 0
        self._total: int | None = None
        self._hash = hashlib.sha256()
        self._file.restart()

    def run(self) -> tuple[int, str]:
        left = self._order.resumes if self._order.method == "GET" else 0
        wait = _FIRST_WAIT
        while True:
            before = self._done
            try:
                self._receive()
                return self._done, self._checked()
            except _Broken as broken:
                if not self._begun or left == 0:
                    raise ActionFailed(f"{self._shown}: {broken}{self._so_far()}") from None
                print(f"{self._shown}: {broken}{self._so_far()}; it is taken up again", flush=True)
            left -= 1
            wait = _FIRST_WAIT if self._done > before else min(2 * wait, _LONGEST_WAIT)
            time.sleep(wait)

    def _so_far(self) -> str:
        return f" (after {self._done} bytes)" if self._begun else ""

    # -- one connection

    def _receive(self) -> None:
        response = self._open()
        try:
            self._begin(response)
            # not beyond what was announced: the server may keep the connection open, and not every read1 counts
            while self._done != self._total and (piece := self._piece(response)):
                self._take(piece)
        finally:
            response.close()
        if self._total is not None and self._done != self._total:
            raise _Broken(f"the connection was closed before the end, of {self._total} bytes")

    def _piece(self, response: Any) -> bytes:
        with self._watched():
            # read would wait for the whole piece
            piece: bytes = response.read1(_PIECE)
            return piece

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What can happen to a connection, as _Broken."""
        try:
            yield
        except TimeoutError:
            raise _Broken(f"no byte came for {self._order.timeout:g} seconds") from None
        except http.client.IncompleteRead:
            raise _Broken("the connection was closed before the end") from None
        except http.client.RemoteDisconnected:
            raise _Broken("the connection was closed without an answer") from None
        except http.client.HTTPException as error:
            raise _Broken(f"the answer is not HTTP ({type(error).__name__})") from None
        except OSError as error:
            raise _Broken(f"the connection broke: {error.strerror or error}") from None

    def _open(self) -> Any:
        """The response, redirections followed. Raises _Broken, ActionFailed."""
        url, headers, method, body = self._url, dict(self._headers), self._order.method, self._order.body
        if self._done and self._validator is not None:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._validator}
        for _ in range(MAX_REDIRECTIONS + 1):
            answer = self._ask(url, headers, method, body)
            if answer.status in self._order.statuses or (answer.status == 206 and self._done):
                return answer
            answer.close()
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTIONS or not location:
                self._refuse(answer.status, answer.reason, url)
            url, headers = self._redirected(url, location, headers)
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = "GET", None
        raise ActionFailed(f"{self._shown}: more than {MAX_REDIRECTIONS} redirections")

    def _ask(self, url: str, headers: dict[str, str], method: str, body: bytes | None) -> Any:
        """The response, or the HTTPError that it is."""
        try:
            with self._watched():
                request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
                try:
                    return self._opener.open(request, timeout=self._order.timeout)
                except HTTPError as error:
                    return error
                except URLError as error:
                    raise self._unreachable(error) from None
        except ValueError as error:  # a host that no request can name, say; the words could hold a header's value
            raise ActionFailed(f"{urls.shown(url)}: cannot be asked for ({type(error).__name__})") from None

    def _refuse(self, status: int, reason: object, url: str) -> NoReturn:
        """Raises _Broken where the status may be another later, and ActionFailed."""
        told = f"{status} {reason}".strip()
        if status in GOOD:
            told += ", which is none of the statuses that were asked for"
        if status == 416 and self._done:  # the file has become shorter than what we have of it
            self._validator = None
            self._restart()
            raise _Broken(told)
        if self._begun and status >= 500:
            raise _Broken(told)
        raise ActionFailed(f"{urls.shown(url)}: {told}")

    def _unreachable(self, error: URLError) -> Exception:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ActionFailed(f"{self._shown}: its certificate is not trusted: {reason.verify_message}")
        if isinstance(reason, TimeoutError):
            if self._order.connect is None:
                return TimeoutError()
            return _Broken(f"there was no connection within {self._order.connect:g} seconds")
        told = getattr(reason, "strerror", None) or str(reason)
        return _Broken(f"cannot be reached: {told}")

    def _redirected(self, url: str, location: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Where to go instead, and what to say there."""
        # http.client reads headers as Latin-1: this brings back the bytes, and escapes what no URL may have
        target = quote(location.encode("latin-1", "replace"), safe="%/:=&?~#+!$,;'@()*[]")
        try:
            target = urljoin(url, target)
            urls.split(target, urls.HTTP)
        except ValueError as error:
            raise ActionFailed(f"{self._shown}: is redirected to {urls.shown(target)}, which {error}") from None
        return split_user(target)[0], headers if origin(target) == origin(url) else for_anybody(headers)

    # -- what comes

    def _begin(self, response: Any) -> None:
        """Look at the head of a response, and make ready for what follows. Raises _Broken, ActionFailed."""
        self._begun = True
        if response.status == 206:
            self._continue(response)
        else:
            if self._done:
                self._restart()
            self._total = response.length
            self._validator = _validator(response.headers)
        self._limit(self._total)

    def _continue(self, response: Any) -> None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        same = _validator(response.headers) in (None, self._validator)
        if found is None or not self._done or int(found[1]) != self._done or not same:
            self._validator = None
            self._restart()
            raise _Broken("another part came than was asked for")
        if found[3] != "*":
            self._total = int(found[3])
        elif response.length is not None:
            self._total = self._done + int(response.length)

    def _limit(self, count: int | None) -> None:
        most = self._order.max_bytes
        if most is not None and count is not None and count > most:
            raise ActionFailed(f"{self._shown}: has {count} bytes, and {most} are allowed (maxBytes)")

    def _take(self, piece: bytes) -> None:
        if self._order.max_bytes is not None and self._done + len(piece) > self._order.max_bytes:
            raise ActionFailed(f"{self._shown}: has more than the {self._order.max_bytes} bytes allowed (maxBytes)")
        self._file.write(piece)
        self._hash.update(piece)
        self._done += len(piece)
        self._report(self._done, self._total)

    def _checked(self) -> str:
        found = self._hash.hexdigest()
        check_sha256(self._shown, self._order.sha256, found)
        return found


def check_sha256(what: str, wanted: str | None, found: str) -> None:
    """Raises ActionFailed where the content is another than wanted."""
    if wanted is not None and wanted.lower() != found:
        raise ActionFailed(f"{what}: its sha256 is {found}, and {wanted.lower()} was wanted")


def _validator(headers: Any) -> str | None:
    """What marks this very version of the file (RFC 9110, 8.8); None: nothing does."""
    tag = headers.get("ETag")
    if tag is not None:
        return str(tag) if tag.startswith('"') else None
    modified, sent = (_date(headers.get(name)) for name in ("Last-Modified", "Date"))
    # of what was changed within the last second there may be two versions with the same stamp
    return str(headers["Last-Modified"]) if modified and sent and sent - modified >= 1 else None


def _date(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


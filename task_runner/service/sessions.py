"""Sessions: who is logged in to the web page. A session is opened with a token, may do what that may, and ends with it.

As of tokens, the store has a digest of each and not the secret, so that a login outlives a daemon that is killed. A
use moves the end, but at most once an hour: what only reads makes no write.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from dataclasses import dataclass, field

from task_runner.errors import StorageFull, TaskRunnerError
from task_runner.lib.clock import Clock, stamp
from task_runner.service import when
from task_runner.service.book import Book
from task_runner.service.statements import Op
from task_runner.service.tokens import Token, Tokens

log = logging.getLogger(__name__)

#: of one token; the oldest ends for the next
MOST_OF_A_TOKEN = 100
#: seconds between two times that the end of a session moves, and that it is looked for those that have ended
MOVE_SECONDS, LOOK_SECONDS = 3600.0, 2.0


@dataclass(eq=False, kw_only=True, slots=True)
class Session:
    """One login."""

    token: Token
    digest: str = field(repr=False)
    #: seconds since 1970
    created_at: float
    expires_at: float
    #: set when it is over
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """All of them. ``seconds``: how long one lasts after it was used."""

    def __init__(self, tokens: Tokens, clock: Clock, *, seconds: float) -> None:
        self.tokens = tokens
        self.clock = clock
        self._seconds = seconds
        #: how much of its time one must have used up before its end moves
        self._step = min(MOVE_SECONDS, seconds / 2)
        self._book: Book | None = None
        #: in the order of their opening
        self._by_digest: dict[str, Session] = {}
        self._unsaved: dict[str, Session] = {}
        #: digests of those that have been signed out, which the store has refused to forget
        self._unforgotten: set[str] = set()

    def load(self, book: Book) -> None:
        """Read those of the store whose tokens are still good."""
        self._book = book
        columns = "digest, token, created_at, expires_at"
        over = []
        for digest, owner, created_at, expires_at in book.store.read(
            (f"SELECT {columns} FROM sessions ORDER BY created_at", ())  # noqa: S608
        ):
            try:
                token = self.tokens.by_digest(owner)
                created, expires = when.parse(created_at), when.parse(expires_at)
            except (ValueError, TypeError) as error:
                log.warning("a session in the store is damaged, and opens nothing: %s", error)
                token, created, expires = None, None, None
            if token is None or created is None or expires is None or expires <= self.clock.time():
                over.append(_forget(digest))
                continue
            self._by_digest[digest] = Session(token=token, digest=digest, created_at=created, expires_at=expires)
        if over:
            book.backlog.keep(over)

    def find(self, secret: str | None) -> Session | None:
        """The session with this secret, if it lasts."""
        session = self._by_digest.get(_digest(secret)) if secret else None
        if session is None or self._is_over(session):
            return None
        now = self.clock.time()
        session.token.used_at, session.token.noted = now, False
        # a clock that was set back must not shorten it
        if now + self._seconds - session.expires_at >= self._step:
            session.expires_at = now + self._seconds
            self._unsaved[session.digest] = session
        return session

    def _is_over(self, session: Session) -> bool:
        now = self.clock.time()
        return session.ended.is_set() or now >= session.expires_at or self._has_lost_its_token(session.token, now)

    def _has_lost_its_token(self, token: Token, now: float) -> bool:
        return token.is_over(now) or (token.ended is not None and token.ended.is_set())

    async def open(self, token: Token, in_place_of: Session | None = None) -> tuple[Session, str]:
        """A new session with a token, and its secret, which is not to be had again. It outlives the daemon when this
        returns, if the disk has space for it. ``in_place_of``: ends with this."""
        assert self._book is not None
        digest_of_token = self.tokens.digest(token)
        assert digest_of_token is not None
        secret, now = secrets.token_urlsafe(32), self.clock.time()
        session = Session(token=token, digest=_digest(secret), created_at=now, expires_at=now + self._seconds)
        mine = [each for each in self._by_digest.values() if each.token is token]
        over = mine[: max(0, len(mine) + 1 - MOST_OF_A_TOKEN)]
        if in_place_of is not None and in_place_of not in over:
            over.append(in_place_of)
        self._by_digest[session.digest] = session
        values = (session.digest, digest_of_token, stamp(now), stamp(session.expires_at))
        keep: Op = ("INSERT INTO sessions VALUES (?, ?, ?, ?)", values)
        await self._book.write_now_or_later([*self._end(over), keep])
        return session, secret

    async def close(self, secret: str) -> None:
        """End the session with this secret, if there is one: nothing brings it back when this returns.

        Raises StorageFull: then it has ended, but the store has yet to forget it, and a daemon that is killed before
        that leaves one that takes it up again. To ask again says whether it has.
        """
        assert self._book is not None
        digest = _digest(secret)
        session = self._by_digest.get(digest)
        if session is None and digest not in self._unforgotten:
            return
        ops = [_forget(digest)] if session is None else self._end([session])
        try:
            await self._book.write(ops)
        except TaskRunnerError as error:
            if digest not in self._unforgotten:
                self._unforgotten.add(digest)
                self._book.backlog.keep(ops)
            raise StorageFull(
                f"signed out, but that could not be stored ({error}): should the daemon be killed before there is "
                "space, the session is good again until it expires; to revoke its token ends it, too"
            ) from None
        self._unforgotten.discard(digest)

    def _end(self, sessions: list[Session]) -> list[Op]:
        for session in sessions:
            session.ended.set()
            self._by_digest.pop(session.digest, None)
            self._unsaved.pop(session.digest, None)
        return [_forget(session.digest) for session in sessions]

    async def run(self) -> None:
        """End those whose time is over or whose token is, and write down which go on for longer."""
        assert self._book is not None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._book.storage_error is None:  # by now it has taken all that it had refused
                self._unforgotten.clear()
            ops = self._end([each for each in self._by_digest.values() if self._is_over(each)])
            ops += [_move(session) for session in self._unsaved.values()]
            self._unsaved.clear()
            if ops:
                await self._book.write_now_or_later(ops)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _forget(digest: str) -> Op:
    return ("DELETE FROM sessions WHERE digest = ?", (digest,))


def _move(session: Session) -> Op:
    return ("UPDATE sessions SET expires_at = ? WHERE digest = ?", (stamp(session.expires_at), session.digest))

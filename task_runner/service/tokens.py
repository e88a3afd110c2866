"""Tokens: who may ask, and for what.

The first one, `admin`, is the file <state>/token. The others are rows of the store, without their secrets: only a
digest of each is kept. A secret has 256 random bits, so a digest without salt and rounds tells nothing of it; and the
time of a look-up by digest says nothing of the secret either.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from task_runner.errors import Conflict, FieldError, InvalidRequest, NotFound, StorageFull
from task_runner.lib.clock import Clock, stamp
from task_runner.model.scopes import Scope, allowed
from task_runner.service import when
from task_runner.service.book import Book
from task_runner.service.statements import Op

log = logging.getLogger(__name__)

#: the name of the one in the file
ADMIN = "admin"
#: what it is called where no token is asked for
NONE = "none"
#: what a secret begins with, so that tools that look for secrets in the wrong places find it
PREFIX = "trt_"
MOST_TOKENS = 1000
#: seconds: the longest life of a token that ends
LONGEST = 100 * 365 * 86_400
#: how often uses are written down, and how often it is looked for what has expired
NOTE_SECONDS, EXPIRY_SECONDS = 60.0, 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(eq=False, kw_only=True, slots=True)
class Token:
    """One of them, as its requests are judged by it."""

    name: str
    scopes: tuple[Scope, ...]
    #: none: it is the file, and not known
    created_at: str | None = None
    #: the name of the token that made it
    created_by: str | None = None
    #: seconds since 1970
    expires_at: float | None = None
    used_at: float | None = None
    #: with what the scopes imply
    allowed: frozenset[Scope] = frozenset()
    #: set when it is revoked or has expired; none: that cannot happen while this daemon runs
    ended: asyncio.Event | None = None
    #: its use is written down
    noted: bool = True

    def __post_init__(self) -> None:
        self.allowed = allowed(self.scopes)

    def is_over(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


#: whoever can connect, where no token is asked for
ANYBODY = Token(name=NONE, scopes=(Scope.ADMIN,))
#: who asks for what is open to all
STRANGER = Token(name="", scopes=())


@dataclass(slots=True)
class Tokens:
    """All of them. ``admin``: the secret of the first one; none: no token is asked for."""

    admin: str | None = field(repr=False)
    clock: Clock
    _book: Book | None = None
    _by_digest: dict[bytes, Token] = field(default_factory=dict, repr=False)
    _digests: dict[str, bytes] = field(default_factory=dict, repr=False)
    _by_name: dict[str, Token] = field(default_factory=dict)
    _being_made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.admin is not None:
            self._know(Token(name=ADMIN, scopes=(Scope.ADMIN,)), _digest(self.admin))

    def load(self, book: Book) -> None:
        """Read those of the store."""
        self._book = book
        columns = "name, digest, scopes, created_at, created_by, expires_at, used_at"
        for row in book.store.read((f"SELECT {columns} FROM tokens", ())):  # noqa: S608
            try:
                self._know(_token_of(row), bytes.fromhex(row[1]))
            except (ValueError, TypeError) as error:
                log.warning("the token %r in the store is damaged, and opens nothing: %s", row[0], error)

    # -- by secret

    def find(self, secret: str) -> Token | None:
        """The token with this secret, also if it has expired."""
        token = self._by_digest.get(_digest(secret))
        if token is not None:
            token.used_at, token.noted = self.clock.time(), False
        return token

    def digest(self, token: Token) -> str | None:
        """What the secret of one is known by; none: it opens nothing any more."""
        digest = self._digests.get(token.name)
        return digest.hex() if digest is not None and self._by_digest.get(digest) is token else None

    def by_digest(self, digest: str) -> Token | None:
        return self._by_digest.get(bytes.fromhex(digest))

    def has(self, text: str) -> bool:
        """Whether a text is the secret of one."""
        return _digest(text) in self._by_digest

    # -- by name

    def all(self) -> list[Token]:
        """In the order of their making."""
        return sorted(self._by_name.values(), key=lambda token: (token.created_at or "", token.name))

    async def create(
        self, name: str, scopes: Iterable[Scope], *, seconds: float | None, by: str
    ) -> tuple[Token, str]:
        """A new token and its secret, which is not to be had again. On stable storage when this returns. Raises
        InvalidRequest, Conflict, StorageFull."""
        assert self._book is not None
        if self.admin is None:
            raise Conflict("no token is asked for here (auth = none), so one would open nothing")
        faults = [FieldError("name", wrong)] if (wrong := _name_fault(name)) else []
        chosen = tuple(scope for scope in Scope if scope in set(scopes))
        if not chosen:
            faults.append(FieldError("scopes", f"at least one is needed of {', '.join(Scope)}"))
        if faults:
            raise InvalidRequest(fields=faults)
        if name in self._by_name or name in self._being_made:
            raise Conflict(f"there is a token {name!r} already: revoke it first")
        if len(self._by_name) + len(self._being_made) > MOST_TOKENS:
            raise Conflict(f"there are {MOST_TOKENS} tokens, and no more are kept: revoke one first")
        now = self.clock.time()
        token = Token(
            name=name,
            scopes=chosen,
            created_at=stamp(now),
            created_by=by,
            expires_at=None if seconds is None else now + seconds,
            ended=asyncio.Event(),
        )
        secret = PREFIX + secrets.token_urlsafe(32)
        self._being_made.add(name)
        try:
            await self._book.write([_keep(token, _digest(secret))])
        finally:
            self._being_made.discard(name)
        self._know(token, _digest(secret))
        return token, secret

    async def revoke(self, name: str) -> None:
        """Let a token open nothing from this moment on. It is forgotten when this returns. Raises NotFound, Conflict,
        StorageFull: then it opens nothing until the daemon is started anew, and can be revoked again."""
        assert self._book is not None
        if name == ADMIN and self.admin is not None:
            raise Conflict("the token of the state directory is made anew if its file is removed: <state>/token")
        token = self._by_name.get(name)
        if token is None:
            raise NotFound(f"there is no token {name[:80]!r}")
        self._by_digest.pop(self._digests[name], None)
        _end(token)
        await self._book.write([("DELETE FROM tokens WHERE name = ?", (name,))])
        self._by_name.pop(name, None)
        self._digests.pop(name, None)

    # -- in time

    async def run(self) -> None:
        """End those that have expired, and write down from time to time which were used."""
        noted = self.clock.monotonic()
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            now = self.clock.time()
            for token in self._by_name.values():
                if token.is_over(now):
                    _end(token)
            if self.clock.monotonic() - noted >= NOTE_SECONDS:
                noted = self.clock.monotonic()
                await self.note_uses()

    async def note_uses(self) -> None:
        """Write down when each was used last."""
        if self._book is None:
            return
        unnoted = [token for token in self._by_name.values() if not token.noted and token.created_at is not None]
        used = [(token, token.used_at) for token in unnoted]
        if not used:
            return
        try:
            await self._book.write([_note(token) for token, _at in used])
        except StorageFull:
            return  # the next time
        for token, at in used:
            token.noted = token.used_at == at  # it may have been used again meanwhile

    def _know(self, token: Token, digest: bytes) -> None:
        self._by_digest[digest] = self._by_name[token.name] = token
        self._digests[token.name] = digest


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _end(token: Token) -> None:
    if token.ended is not None:
        token.ended.set()


def _name_fault(name: str) -> str | None:
    if name in (ADMIN, NONE):
        return f"{name!r} has a meaning of its own"
    if _NAME.fullmatch(name) is None:
        return "expected up to 64 letters, digits and `._@-`, a letter or digit first"
    return None


def _keep(token: Token, digest: bytes) -> Op:
    expires = None if token.expires_at is None else stamp(token.expires_at)
    values = (token.name, digest.hex(), " ".join(token.scopes), token.created_at, token.created_by, expires)
    return ("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)", values)


def _note(token: Token) -> Op:
    return ("UPDATE tokens SET used_at = ? WHERE name = ?", (token.used_at and stamp(token.used_at), token.name))


def _token_of(row: Any) -> Token:
    name, _digest, scopes, created_at, created_by, expires_at, used_at = row
    known = set(Scope)
    return Token(
        name=name,
        # one that a later version knows allows nothing here
        scopes=tuple(Scope(word) for word in scopes.split() if word in known),
        created_at=created_at,
        created_by=created_by,
        expires_at=when.parse(expires_at),
        used_at=when.parse(used_at),
        ended=asyncio.Event(),
    )


def token_json(token: Token, now: float) -> dict[str, Any]:
    """As `/v1` shows it."""
    return {
        "name": token.name,
        "scopes": list(token.scopes),
        "createdAt": token.created_at,
        "createdBy": token.created_by,
        "expiresAt": None if token.expires_at is None else stamp(token.expires_at),
        "expired": token.is_over(now),
        "lastUsedAt": None if token.used_at is None else stamp(token.used_at),
    }

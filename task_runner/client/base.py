"""What the parts of a client share: one connection, and answers that are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.connection import Connection
from task_runner.client.discovery import Address
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    import httpx


class Base:
    """One daemon. Not to be used by two threads at once.

    ``patience``: seconds to wait for a daemon that has answered and went away; ``on_outage`` is told when that
    begins. ``met``: it has answered before, if not to this client. ``hint`` explains a missing token.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = 0.0,
        on_outage: Callable[[TaskRunnerError], None] | None = None,
        hint: str | None = None,
        met: bool = False,
    ) -> None:
        self._connection = Connection(url, token, patience=patience, on_outage=on_outage, hint=hint, met=met)
        self.url = url
        #: whether the daemon's directories are ours
        self.local = self._connection.local

    @classmethod
    def at(cls, address: Address, **options: Any) -> Self:
        """The client of an address that was found."""
        return cls(address.url, address.token, hint=address.hint, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # -- answers

    def _object(self, call: Call, fields: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The JSON object that is the answer, with these fields in it."""
        return self._checked(self._json(call), fields)

    def _list(self, call: Call, fields: frozenset[str]) -> Sequence[dict[str, Any]]:
        """The JSON array of such objects that is the answer."""
        return self._objects(self._json(call), fields)

    def _pages(self, call: Call, fields: frozenset[str]) -> Iterator[dict[str, Any]]:
        """Such objects of this page and all that follow it."""
        following: Call | None = call
        while following is not None:
            response = self._connection.send(following)
            yield from self._objects(self._parsed(response), fields)
            link = response.links.get("next", {}).get("url")
            following = calls.following(link) if link else None

    def _json(self, call: Call) -> Any:
        return self._parsed(self._connection.send(call))

    def _parsed(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise self._connection.alien() from None

    def _objects(self, value: Any, fields: frozenset[str]) -> Sequence[dict[str, Any]]:
        if not isinstance(value, list):
            raise self._connection.alien()
        return [self._checked(each, fields) for each in value]

    def _checked(self, value: Any, fields: frozenset[str]) -> dict[str, Any]:
        if not isinstance(value, dict) or not fields <= value.keys():
            raise self._connection.alien()
        return value

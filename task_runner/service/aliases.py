"""Aliases: other names of tasks, each of which no other task that is kept has.

A task keeps its alias until it is deleted; from then on another can have it, also while the first still ends.
What the clients of a dialect call a task is an alias, too: the dialect's name, a colon, and theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from task_runner.errors import Conflict, InvalidRequest
from task_runner.service.book import Book
from task_runner.service.task import Task


class Aliases:
    """Who has which. Reads the store: what is accepted is in it."""

    def __init__(self, book: Book) -> None:
        self._book = book
        #: of requests that are being accepted
        self._under_way: set[str] = set()

    def find(self, alias: str) -> Task | None:
        """The task with this alias, as it is now."""
        stored = self._book.store.by_alias(alias)
        return stored and self._book.active.get(stored.id, stored)

    @contextmanager
    def reserved(self, aliases: Sequence[str | None], origin: str) -> Iterator[None]:
        """While these are accepted nobody else gets one of them. Raises Conflict where one is taken, InvalidRequest
        where two of them are the same, or are another surface's to give."""
        asked: set[str] = set()
        for index, alias in enumerate(aliases):
            if alias is None:
                continue
            field = "alias" if len(aliases) == 1 else f"tasks.{index}.alias"
            if ":" in alias and not alias.startswith(f"{origin}:"):
                raise InvalidRequest.at(field, "an alias has no colon; those that have are names of other interfaces")
            if alias in asked:
                raise InvalidRequest.at(field, f"{alias!r} stands twice in this batch")
            if alias in self._under_way:
                raise Conflict(f"another request is about to take the alias {alias!r}")
            if (holder := self.find(alias)) is not None:
                raise Conflict(f"the alias {alias!r} is taken by task {holder.id}: delete that first")
            asked.add(alias)
        self._under_way |= asked
        try:
            yield
        finally:
            self._under_way -= asked

"""The backlog: changes that have happened and that the store has refused, until it takes them.

Rule: nothing is written past it. A later change of the same task would otherwise be overwritten by the earlier one.
"""

from __future__ import annotations

import asyncio
import logging

from task_runner.errors import Damaged, TaskRunnerError
from task_runner.service import statements
from task_runner.service.statements import Op
from task_runner.service.store import Store

log = logging.getLogger(__name__)


class Backlog:
    """Writes to the store, in order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._refused: list[list[Op]] = []
        self._catching_up = asyncio.Lock()
        #: what the store last refused, until it takes changes again
        self.error: str | None = None

    async def write(self, ops: list[Op]) -> None:
        """Bring changes to the store, those that it has refused before them. Raises StorageFull."""
        try:
            if self._refused or self._catching_up.locked():
                await self._catch_up()
            await self.store.write(ops)
        except TaskRunnerError as error:
            self.error = str(error)
            raise
        if not self._refused:  # another may have been refused while this one was on its way
            self.error = None

    def keep(self, ops: list[Op]) -> None:
        """Have changes written later, which have been refused."""
        self._refused.append(ops)

    async def retry(self) -> None:
        """Find out whether the store takes changes again, if it has refused some. Raises StorageFull."""
        if self._refused or self.error is not None:
            await self.write([statements.TOUCH])

    async def _catch_up(self) -> None:
        async with self._catching_up:
            while self._refused:
                group = self._refused[0]
                try:
                    await self.store.write(group)
                except Damaged as error:
                    # a fault of ours, which would bar everything behind it for ever
                    log.error("a change cannot be stored, and is given up: %s; %s", error, [op[0] for op in group])
                self._refused.pop(0)

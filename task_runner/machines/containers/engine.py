"""Asking an engine that may be restarted meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from task_runner.engines.base import Engine
from task_runner.engines.find import open_engine
from task_runner.errors import EngineFailed
from task_runner.machines.base import Context, Run

T = TypeVar("T")

#: seconds that an engine may be away before what it is asked for counts as failed
PATIENCE = 60.0
_AGAIN = 0.25


def among_engines(run: Run) -> Run:
    """Have a machine run in the daemon's own environment, taken note of now: it says where engines are, and a task's
    does not."""
    environment = dict(os.environ)

    def run_there(parameters: Any, context: Context) -> int:
        os.environ.clear()
        os.environ.update(environment)
        return run(parameters, context)

    return run_there


class Asker:
    """Asks one engine, for one thread: each has a connection of its own."""

    def __init__(self, name: str | None, sockets: Mapping[str, str], check: Callable[[], None]) -> None:
        """``check`` is called while the engine is waited for, and may raise."""
        self._sockets = sockets
        self.check = check
        self._engine: Engine | None = None
        #: none: the first one that is found; it is the same from then on
        self.name = name

    def engine(self) -> Engine:
        """A connection. Raises EngineFailed."""
        if self._engine is None:
            self._engine = open_engine(self.name, self._sockets)
            self.name = self._engine.name
        return self._engine

    def ask(self, question: Callable[[Engine], T]) -> T:
        """Ask until there is an answer, or patience ends. Raises EngineFailed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return question(self.engine())
            except EngineFailed:
                if self.answers() or time.monotonic() > deadline:
                    raise
            self.check()
            time.sleep(_AGAIN)

    def answers(self) -> bool:
        """Whether the engine is there at all: where it is, what it said before was meant so."""
        try:
            self.engine().ping()
        except EngineFailed:
            self.close()
            return False
        return True

    def another(self) -> Asker:
        """One for another thread, who is not to be interrupted."""
        return Asker(self.name, self._sockets, lambda: None)

    def close(self) -> None:
        """Let go of the connection; another is made when it is asked for."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

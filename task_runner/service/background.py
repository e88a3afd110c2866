"""What goes on beside requests: loops that end with the daemon, and jobs that end by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]


class Background:
    """Of one daemon."""

    def __init__(self) -> None:
        self._loops: list[asyncio.Task[None]] = []
        self._jobs: set[asyncio.Task[None]] = set()

    def loop(self, name: str, work: Work) -> None:
        """Let it go on until `stop`."""
        self._loops.append(asyncio.create_task(work, name=name))

    def job(self, work: Work) -> None:
        """Let it come to its end. If it fails that is logged, and what it was to do is left for whoever asks again."""
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.warning("left for later: %s", error)

    async def stop(self) -> None:
        """End the loops. Jobs go on."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

"""Removing what container engines keep for tasks that are over, with the help of a process of its own.

The daemon loads no engine's client: it starts `python -m task_runner.engines.sweep`, which lists what there is, is told
what of it is to go, and removes that. What is listed has been made before it is decided on, so a task that starts
meanwhile is known by then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

#: seconds for engines to list, and then to remove
PATIENCE = 120.0


class Sweeper:
    """``marker``: the file that is there if containers were ever run; without it nothing is done."""

    def __init__(self, marker: str, daemon: str, engines: Mapping[str, str]) -> None:
        self._marker = marker
        self._order = {"daemon": daemon, "engines": dict(engines)}
        self._expecting = False
        self._one_at_a_time = asyncio.Lock()

    def expect(self) -> None:
        """A container is about to be run."""
        if self._expecting:
            return
        try:
            os.close(os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            self._expecting = True
        except OSError as error:
            log.warning("%s: %s; containers of dead tasks may not be swept", self._marker, error.strerror)

    async def sweep(self, doomed: Callable[[str, int], bool]) -> bool:
        """See Environment.sweep."""
        if not os.path.lexists(self._marker):
            return True
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._sweep(doomed)
            except (TimeoutError, OSError, ValueError) as error:
                log.warning("sweeping containers: %s", error or "no engine answered in time")
                return False

    async def _sweep(self, doomed: Callable[[str, int], bool]) -> bool:
        helper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "task_runner.engines.sweep",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
        )
        try:
            found = await _ask(helper, self._order)
            chosen = [each for each in found["found"] if doomed(each["task"], each["attempt"])]
            done = await _ask(helper, {"remove": chosen})
        finally:
            if helper.returncode is None:
                try:
                    helper.kill()
                except ProcessLookupError:
                    pass
            await helper.wait()
        for error in (*found["errors"], *done["errors"]):
            log.warning("sweeping containers: %s", error)
        if done["removed"]:
            names = ", ".join(done["removed"])
            log.warning("removed what was left with container engines: %s", names, extra={"action": "swept"})
        return not found["errors"] and not done["errors"]


async def _ask(helper: asyncio.subprocess.Process, question: dict[str, Any]) -> dict[str, Any]:
    assert helper.stdin is not None
    assert helper.stdout is not None
    helper.stdin.write(json.dumps(question).encode() + b"\n")
    await helper.stdin.drain()
    line = await helper.stdout.readline()
    if not line:
        raise ValueError("the helper process ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer

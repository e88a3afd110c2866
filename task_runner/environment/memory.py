"""An environment without processes, for tests of what decides: it passes the same contract tests as the real one.

It knows three commands: `true` and `false` end at once, anything else runs until it is stopped, or until a test
calls `finish` or `vanish`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from task_runner.environment import base
from task_runner.environment.base import Launch, Refusal, Sighting
from task_runner.errors import Conflict
from task_runner.lib import signals
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.portrait import Portrait
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, Heartbeat, Identity, Receipt, Status
from task_runner.model.walls import Means


@dataclass(slots=True)
class _Attempt:
    status: Status | None = None
    alive: bool = False
    void: bool = False
    input: bytes = b""
    input_ended: bool = False
    gpus: tuple[int, ...] = ()


@dataclass(slots=True)
class MemoryEnvironment:
    """Runs attempts as entries of a dictionary. See environment/base.py for what each method promises."""

    clock: Clock
    #: why launches are refused, if they are
    refuse: str | None = None
    #: launches are swallowed: no runner ever claims them
    swallow: bool = False
    #: every launch that was asked for
    launches: list[Launch] = field(default_factory=list)
    #: tasks whose status was brought to stable storage by hand
    made_durable: list[str] = field(default_factory=list)
    #: what the output of an attempt takes
    output_bytes: dict[tuple[str, int], int] = field(default_factory=dict)
    #: how limits are said to be enforced
    limits: list[Means] = field(default_factory=list)
    _attempts: dict[tuple[str, int], _Attempt] = field(default_factory=dict)
    _on_news: Callable[[str], None] = lambda _task_id: None
    _on_refusal: Callable[[Refusal], None] = lambda _refusal: None
    _next_pid: int = 2**22  # beyond what a kernel gives out

    async def open(
        self, on_news: Callable[[str], None], on_refusal: Callable[[Refusal], None], on_outage: Callable[[], None]
    ) -> None:
        del on_outage
        self._on_news, self._on_refusal = on_news, on_refusal

    async def close(self) -> None:
        self._on_news = lambda _task_id: None

    def launch(self, launch: Launch) -> None:
        self.launches.append(launch)
        call = asyncio.get_running_loop().call_soon
        if self.refuse is not None:
            call(self._on_refusal, Refusal(task_id=launch.task_id, attempt=launch.attempt, reason=self.refuse))
        elif not self.swallow:
            call(self._start, launch)

    def _start(self, launch: Launch) -> None:
        key = (launch.task_id, launch.attempt)
        if key in self._attempts:
            if launch.take_up and not self._attempts[key].alive:
                self._attempts[key].alive = True
                self._on_news(launch.task_id)
            return
        self._next_pid += 1
        identity = Identity(pid=self._next_pid, start_time=1, boot_id="memory")
        action = json.loads(launch.spec)["actions"][0]
        status = Status(
            task_id=launch.task_id,
            attempt=launch.attempt,
            runner=identity,
            state=State.RUNNING,
            current_action_idx=0,
            actions=[ActionStatus(index=0, machine=action["machine"], state="running")],
            started_at=stamp(self.clock.time()),
            heartbeat=Heartbeat(at=stamp(self.clock.time()), monotonic=self.clock.monotonic()),
        )
        gpus = tuple(launch.grant.gpus) if launch.grant else ()
        self._attempts[key] = _Attempt(status, alive=True, gpus=gpus)
        program = ((action.get("parameters") or {}).get("command") or [""])[0]
        if program in ("true", "false"):
            self.finish(launch.task_id, launch.attempt, exit_code=int(program == "false"))
        self._on_news(launch.task_id)

    # -- what a test makes happen

    def finish(self, task_id: str, attempt: int = 1, *, exit_code: int = 0) -> None:
        """Let the command of an attempt end by itself."""
        outcome = Outcome.FAILED if exit_code else Outcome.SUCCEEDED
        self._end(task_id, attempt, outcome=outcome, exit_code=exit_code)

    def vanish(self, task_id: str, attempt: int = 1) -> None:
        """Let the runner of an attempt die without a word."""
        self._attempts[task_id, attempt].alive = False
        self._on_news(task_id)

    def _end(self, task_id: str, attempt: int, **ending: object) -> None:
        entry = self._attempts[task_id, attempt]
        assert entry.status is not None
        finished = stamp(self.clock.time())
        entry.alive = False
        entry.status = replace(entry.status, state=State.EXITED, finished_at=finished, **ending)  # type: ignore[arg-type]
        self._on_news(task_id)

    # -- the contract

    def look(self, task_id: str, attempt: int) -> Sighting:
        entry = self._attempts.get((task_id, attempt))
        if entry is None:
            return Sighting()
        status = entry.status
        return Sighting(
            claimed=True,
            alive=entry.alive,
            void=entry.void,
            runner=status.runner if status else None,
            heartbeat=status.heartbeat if status else None,
            status=status,
            process_state="S" if entry.alive else None,
            gpus=entry.gpus,
        )

    def report(self, task_id: str, attempt: int) -> Status | None:
        entry = self._attempts.get((task_id, attempt))
        return entry.status if entry else None

    def bar(self, task_id: str, attempt: int) -> bool:
        entry = self._attempts.get((task_id, attempt))
        return entry is None or not entry.alive

    async def sweep(self, doomed: Callable[[str, int], bool]) -> bool:
        del doomed
        return True

    def forget(self, task_id: str) -> None:
        """Nothing is watched here."""

    def recall(self, task_id: str, attempt: int) -> bool:
        return self._attempts.get((task_id, attempt)) is None

    def stop(self, task_id: str, attempt: int, signal: str | None, grace: float | None) -> bool:
        receipt = Receipt(reason="stop", signal=signal or "SIGTERM", grace_seconds=grace, signalled_count=1)
        return self._if_alive(
            task_id,
            attempt,
            lambda: self._end(
                task_id, attempt, outcome=Outcome.CANCELLED, signal=signal or "SIGTERM", receipt=receipt
            ),
        )

    def abandon(self, task_id: str, attempt: int) -> bool:
        return self._if_alive(task_id, attempt, lambda: self.vanish(task_id, attempt))

    def pause(self, task_id: str, attempt: int) -> bool:
        return self._if_alive(task_id, attempt, lambda: self._enter(task_id, attempt, State.PAUSED))

    def resume(self, task_id: str, attempt: int) -> bool:
        return self._if_alive(task_id, attempt, lambda: self._enter(task_id, attempt, State.RUNNING))

    def signal(self, task_id: str, attempt: int, number: int) -> bool:
        name = signals.name_of(number)
        return self._if_alive(
            task_id, attempt, lambda: self._end(task_id, attempt, outcome=Outcome.FAILED, signal=name)
        )

    def feed(self, task_id: str, attempt: int, data: bytes, offset: int | None, end: bool) -> int | None:
        entry = self._attempts.get((task_id, attempt))
        if entry is None or not entry.alive:
            return None
        if offset is not None and entry.input[offset:] == data and (entry.input_ended or not end):
            return len(entry.input)
        if entry.input_ended:
            raise Conflict("the input has ended")
        if offset not in (None, len(entry.input)):
            raise Conflict(f"{len(entry.input)} bytes of input have come so far, not {offset}")
        entry.input_ended = end
        entry.input += data
        return len(entry.input)

    def _enter(self, task_id: str, attempt: int, state: State) -> None:
        entry = self._attempts[task_id, attempt]
        assert entry.status is not None
        entry.status = replace(entry.status, state=state)
        self._on_news(task_id)

    def _if_alive(self, task_id: str, attempt: int, act: Callable[[], None]) -> bool:
        entry = self._attempts.get((task_id, attempt))
        if entry is None or not entry.alive:
            return False
        asyncio.get_running_loop().call_soon(act)
        return True

    def clear(self, task_id: str, *, rebooted: bool = False) -> Receipt | None:
        del task_id, rebooted
        return None

    def make_durable(self, task_id: str, attempt: int) -> None:
        del attempt
        self.made_durable.append(task_id)

    def discard(self, task_id: str) -> None:
        for key in [key for key in self._attempts if key[0] == task_id]:
            del self._attempts[key]

    def output_path(self, task_id: str, attempt: int, stream: str = "output") -> str:
        return f"/nonexistent/{task_id}/{attempt}/{stream}"

    def unforwarded(self, task_id: str, attempt: int) -> int | None:
        del task_id, attempt
        return None

    def work_path(self, task_id: str) -> str:
        return f"/nonexistent/{task_id}/work"

    def disk_use(self, task_id: str) -> int:
        return sum(size for (each, _attempt), size in self.output_bytes.items() if each == task_id)

    def output_use(self, task_id: str, attempts: int) -> int:
        return sum(self.output_bytes.get((task_id, attempt), 0) for attempt in range(1, attempts + 1))

    def drop_output(self, task_id: str, attempts: int) -> None:
        for attempt in range(1, attempts + 1):
            self.output_bytes.pop((task_id, attempt), None)

    def tree(self, task_id: str, attempt: int, most: int) -> tuple[list[Portrait], int]:
        entry = self._attempts.get((task_id, attempt))
        if entry is None or not entry.alive or entry.status is None:
            return [], 0
        pid = entry.status.runner.pid
        runner = Portrait(pid=pid, ppid=1, name="runner", command="runner", state="S")
        command = Portrait(pid=pid + 1, ppid=pid, name="command", command="command", state="S")
        return [runner, command][:most], 2

    def measure(self, statuses: Iterable[Status]) -> dict[str, base.Use]:
        return {
            each.task_id: base.Use(cpu_seconds=0.0, rss_bytes=0, processes=1)
            for each in statuses
            if (entry := self._attempts.get((each.task_id, each.attempt))) is not None and entry.alive
        }

    def means(self) -> list[Means]:
        return self.limits

    def known(self) -> list[str]:
        return list(dict.fromkeys(task_id for task_id, _attempt in self._attempts))

"""A container from its image to its removal, as one thread sees it.

Rule 1: the name and the labels are known before there is a container, and what the engine is being asked for is kept
        before it is asked (machines/containers/keep.py). So whoever comes after a death between any two lines finds it.
Rule 2: it is started at most once. One that the engine was asked to start and that nobody saw start is lost.
Rule 3: how it ended is kept before it is removed, and after all its output is in the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from task_runner.engines.base import Seen
from task_runner.engines.cgroupwatch import CgroupWatch
from task_runner.errors import ActionFailed, EngineFailed
from task_runner.machines.base import Context
from task_runner.machines.containers.copy import Copier
from task_runner.machines.containers.engine import Asker
from task_runner.machines.containers.gate import Cut, Gate, Phase
from task_runner.machines.containers.image import obtain
from task_runner.machines.containers.keep import Keep
from task_runner.machines.containers.log import Log
from task_runner.machines.containers.order import labels_of, order_of, real
from task_runner.machines.say import say
from task_runner.model.codec import to_json
from task_runner.model.status import ContainerNote, LimitNote
from task_runner.model.walls import ContainerParameters

#: what `docker run` ends with where there was no container to end
FAILED = 125
#: seconds of one wait for the end: how often it is looked what the container uses
_ROUND = 2.0
#: seconds for an engine to come to what an earlier process had asked of it
SETTLE = 20.0


class _Lost(Exception):
    """It has ended, or never began, and nobody knows how."""


class Life:
    """`run` returns the exit code, with everything said and nothing left."""

    def __init__(self, wanted: ContainerParameters, context: Context, keep: Keep, gate: Gate) -> None:
        self._wanted = wanted
        self._context = context
        self._keep = keep
        self._gate = gate
        self._log = Log(keep, took_up=context.take_up)
        self._asker = Asker(keep.entry.engine or wanted.engine, context.engines, gate.check)
        self._order = order_of(wanted, context)
        self._note = ContainerNote(engine=wanted.engine or "", name=self._order.name, image=wanted.image)
        self._id: str | None = None
        self._watch = CgroupWatch.of(None)
        #: it may still be there: the engine did not remove it
        self.left = False

    def run(self) -> int:
        """Raises Cut where a signal ended it before it was started."""
        known = self._keep.entry.last
        last = known or self._live()
        if known is None:
            self._keep.write(last=last)
        self._context.reach("container.ended")
        say(self._context.say, last)
        self._remove(search=known is not None)
        self._context.reach("container.removed")
        return _exit_code(last)

    def _live(self) -> dict[str, Any]:
        try:
            with self._put_away_if_cut():
                self._take_up() if self._context.take_up else self._begin()
            return self._follow()
        except _Lost as error:
            return {"lost": _short(error)}
        except (EngineFailed, ActionFailed) as error:
            return self._failed(_short(error))
        except Cut:
            raise
        except Exception as error:  # of a client library: what has been made is put away all the same
            why = _short(error, f"{type(error).__name__}: ")
            return {"lost": why} if self._gate.phase is Phase.LIVING else self._failed(why)

    def _failed(self, why: str) -> dict[str, Any]:
        """It has not been started, and never will be."""
        if self._note.stage not in (None, "unfetched"):
            self._tell(stage="unstarted", error=why)
        return {"failed": why}

    @contextmanager
    def _put_away_if_cut(self) -> Iterator[None]:
        try:
            yield
        except Cut:
            if self._id is None and self._keep.entry.stage != "new" and self._asker.answers():
                self._id = self._find()
            self._remove()
            raise

    # -- before it lives

    def _begin(self) -> None:
        say(self._context.say, {"state": "provisioning"})
        self._asker.ask(lambda _engine: None)  # which one it is
        limits = self._limits()
        self._keep.write(engine=self._asker.name)
        self._order = real(self._order, self._wanted, self._context)
        self._tell(engine=self._asker.name, limits=limits, stage="fetching")
        self._context.reach("container.fetching")
        if self._order.limits is not None and self._order.limits.required:
            for note in limits:
                if note.by is None:
                    raise ActionFailed(f"limits.{note.limit} is required, and not enforced: {note.note}")
        self._tell(image_id=self._image(), stage="making")
        self._context.reach("container.pulled")
        self._gate.make()
        self._create()
        self._gate.check()
        self._start()

    def _image(self) -> str:
        try:
            return obtain(self._wanted, self._context, self._asker)
        except (EngineFailed, ActionFailed) as error:
            self._tell(stage="unfetched", error=_short(error))
            raise

    def _create(self) -> None:
        self._keep.write(stage="create")
        self._context.reach("container.create")
        try:
            self._id = self._asker.engine().create(self._order)
        except EngineFailed:
            # an engine that was restarted in the middle of it may have made it
            self._id = self._find()
            if self._id is None:
                raise
        limits = self._limits()
        self._context.reach("container.created")
        self._tell(id=self._id, limits=limits)

    def _start(self) -> None:
        assert self._id is not None
        container = self._id
        self._keep.write(stage="start")
        self._context.reach("container.start")
        self._watch = CgroupWatch.of(self._pid(container))  # an engine may have the process ready by now
        try:
            self._asker.engine().start(container)
        except EngineFailed:
            if self._asker.answers() and self._look().state == "created":
                raise
            self._await_start(container)
        self._alive(container)

    def _alive(self, container: str, *, paused: bool | None = None) -> None:
        """``paused``: how an earlier process has left it."""
        self._context.reach("container.started")
        if not self._watch.sees:
            self._watch = CgroupWatch.of(self._pid(container))
        say(self._context.say, {"state": "running"})
        if paused is not None:  # told before signals are passed on: what comes of those is told by another thread
            say(self._context.say, {"paused": paused})
        self._gate.live(container)
        self._tell(stage="running")

    def _limits(self) -> list[LimitNote]:
        if self._order.limits is None:
            return []
        return self._asker.ask(lambda engine: engine.notes(self._order))

    # -- after the death of an earlier process

    def _take_up(self) -> None:
        stage = self._keep.entry.stage
        self._id = self._find()
        deadline = time.monotonic() + SETTLE
        while self._id is None and stage == "create" and time.monotonic() < deadline:
            time.sleep(0.1)
            self._id = self._find()
        if self._id is None:
            asked = "it had not been made when the task's process died" if stage == "new" else "it is gone"
            raise _Lost(f"{self._asker.name or 'no engine'} has no container {self._order.name}: {asked}")
        limits, seen = self._limits(), self._look()
        how_far = "making" if seen.state == "created" else "running"
        self._tell(engine=self._asker.name or "", id=self._id, image_id=seen.image_id, limits=limits, stage=how_far)
        if seen.state == "created" and stage != "start":
            self._gate.check()
            self._start()
            return
        self._alive(self._id, paused=self._await_start(self._id).state == "paused")

    def _await_start(self, container: str) -> Seen:
        """Until it has been started, as the engine had been asked to. Raises _Lost."""
        deadline = time.monotonic() + SETTLE
        while (seen := self._look()).state == "created":
            if time.monotonic() > deadline:
                raise _Lost(f"the engine was asked to start container {container[:12]} and has not: it is removed")
            time.sleep(0.1)
        if seen.state == "gone":
            raise _Lost(f"{self._asker.name} does not know the container any more")
        return seen

    def _find(self) -> str | None:
        found = self._asker.ask(lambda engine: engine.find(labels_of(self._context)))
        return next((each.id for each in found if each.ours), None)

    def _look(self) -> Seen:
        container = self._id or ""
        return self._asker.ask(lambda engine: engine.look(container))

    # -- while it lives

    def _follow(self) -> dict[str, Any]:
        assert self._id is not None
        copier = Copier(self._id, self._asker, self._log)
        seen = self._await_end(self._id)
        accounting, oom_kills = self._watch.accounting(), self._watch.oom_kills()
        self._tell(stage="ended", exit_code=seen.exit_code, signal=seen.signal, accounting=accounting)
        if (unread := copier.see_out()) is not None:
            self._tell(output_note=unread)
        if seen.exit_code is None and seen.signal is None:
            unknown = "the container any more" if seen.state == "gone" else "how it ended"
            why = f"{self._asker.name} does not know {unknown}"
            raise _Lost(f"{why}: {seen.error}" if seen.error else why)
        oom = seen.oom_killed or (oom_kills > 0 if oom_kills is not None else seen.oom_killed)
        return {"ended": {"exitCode": seen.exit_code, "signal": seen.signal, "oomKilled": oom}}

    def _pid(self, container: str) -> int | None:
        try:
            pid = self._asker.engine().look(container).pid
        except EngineFailed:
            return None  # it is waited for below; what it uses stays unknown
        if pid is not None:
            say(self._context.say, {"process": pid})
        return pid

    def _await_end(self, container: str) -> Seen:
        """However long the engine is away: it alone knows."""
        pause = 0.2
        while True:
            try:
                seen = self._asker.engine().wait(container, _ROUND)
                pause = 0.2
            except EngineFailed:
                self._asker.close()
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
                continue
            if seen.state in ("exited", "gone"):
                return seen

    # -- the end

    def _remove(self, *, search: bool = False) -> None:
        """``search``: an earlier process has made it, and may have removed it."""
        self._asker.check = lambda: None  # it is to be put away, whatever is to end
        try:
            if search:
                self._id = self._find()
            if self._note.stage is not None:  # else an earlier process has told of it, and more
                self._tell(removing=True)
            self._context.reach("container.removing")
            if (container := self._id) is not None:
                self._asker.ask(lambda engine: engine.remove(container))
        except EngineFailed:
            self.left = True

    def _tell(self, **changes: Any) -> None:
        self._note = replace(self._note, **changes)
        say(self._context.say, {"container": to_json(self._note)})


def _exit_code(last: dict[str, Any]) -> int:
    ended = last.get("ended")
    if ended is None:
        return FAILED
    code = ended["exitCode"]
    return FAILED if code is None else int(code)


def _short(error: Exception, prefix: str = "") -> str:
    text = prefix + " ".join(str(error).split())
    return text if len(text) <= 500 else text[:499] + "…"

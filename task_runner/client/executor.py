"""A `concurrent.futures.Executor` over commands.

    with TaskExecutor() as executor:
        tests = [executor.submit(["make", "-C", each, "test"], timeout_seconds=600) for each in directories]
        for future in concurrent.futures.as_completed(tests):
            print(future.result().ending)

How much runs at once is the daemon's business (`max_running`, pools, resources): what waits there waits as a task.

One thread hears of the ends of all tasks, by one stream of events. Where an event may have been lost, because the
connection was away for longer than events are kept or somebody has removed the task, a look at the tasks finds out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

from task_runner.client.blocking import Opened
from task_runner.client.client import Client
from task_runner.client.core import new_key
from task_runner.client.errors import Conflict, NotFound
from task_runner.client.futures import TaskFuture, TaskResult
from task_runner.client.ledger import Known, Ledger
from task_runner.client.records import is_over
from task_runner.client.results import ending_of
from task_runner.client.work import Work, body_of, words
from task_runner.errors import TaskRunnerError

#: seconds for which the default client waits for a daemon that is away
PATIENCE = 600.0
#: the tag that all tasks of one executor carry
TAG = "executor"
#: tasks in one request of `map`
CHUNK = 1000
#: seconds from one look at all tasks that are not over to the next; and how much more often than looked is not looked
LOOK_SECONDS, LOOK_SHARE = 30.0, 100
NOT_OVER = ("scheduled", "pending", "starting", "provisioning", "running", "paused", "stopping", "unknown")
_WAITING = ("scheduled", "pending")
#: for a task that is not to start before it is cancelled
NEVER = "2199-01-01T00:00:00Z"


class TaskExecutor(Executor):
    """Runs commands as tasks of one daemon. All methods may be called by several threads, and by callbacks of futures.

    ``client``: of the daemon that is meant, left open; without it, one of the daemon that `find` finds. ``spec``:
    fields for all tasks (`pool=…`, `env=…`, `tags=…`), which those of a submit take the place of. ``name``: the tag
    "executor" of the tasks, by which a list finds them; one is made up if it is not given.
    """

    def __init__(self, client: Client | None = None, *, name: str | None = None, **spec: Any) -> None:
        self._owned = client is None
        self._client = Client(patience=PATIENCE) if client is None else client
        self.name = name or new_key()[:12]
        self._spec = body_of({}, spec)
        self._ledger: Ledger[TaskFuture] = Ledger()
        self._lock = threading.Condition()
        self._closed = False
        self._broken: BaseException | None = None
        self._watcher: threading.Thread | None = None
        self._listening = threading.Event()
        self._stream = Opened()

    # -- submitting

    def submit(self, work: Work, /, **spec: Any) -> TaskFuture:  # type: ignore[override]  # a command, no callable
        """Hand in a command (a list of words) or a spec; by the time this returns the daemon has accepted it.

        Raises TypeError for a Python callable and what else is no command, and what `Client.submit` raises.
        """
        body = self._body(work, spec)

        def send() -> list[Known]:
            return [self._client.submit(body)]

        return self._accept(send, 1)[0]

    def map(  # type: ignore[override]
        self, works: Iterable[Work], /, *no: object, timeout: float | None = None, chunksize: int = CHUNK, **spec: Any
    ) -> Iterator[TaskResult]:
        """The results of commands in their order, as they come. All are handed in at once, as batches of ``chunksize``.

        Where ``timeout`` seconds from the call are not enough TimeoutError is raised. What has not started when the
        iterator is left is cancelled.
        """
        if callable(works):
            words(works)  # says why not
        if no:
            raise TypeError("one iterable of commands is expected: map(['sh', '-c', each] for each in lines)")
        if not 1 <= chunksize <= 10_000:
            raise ValueError("chunksize: 1 to 10000")
        bodies = [self._body(work, spec) for work in works]
        end = None if timeout is None else time.monotonic() + timeout
        futures: list[TaskFuture] = []
        for start in range(0, len(bodies), chunksize):
            futures += self._submit_batch(bodies[start : start + chunksize])
        return _in_order(futures[::-1], end)

    def _submit_batch(self, bodies: list[dict[str, Any]]) -> list[TaskFuture]:
        def send() -> list[Known]:
            made = self._client.submit_batch({"tasks": bodies})["tasks"]
            # nothing but the ids is known of them: whether they are over by now, events tell
            return [{"taskId": task_id, "state": "pending"} for task_id in made]

        return self._accept(send, len(bodies))

    def _body(self, work: object, spec: Mapping[str, Any]) -> dict[str, Any]:
        given = work if isinstance(work, Mapping) else {"command": words(work)}
        body = {**self._spec, **body_of(given, spec)}
        body["tags"] = {TAG: self.name, **self._spec.get("tags", {}), **body.get("tags", {})}
        return body

    def _accept(self, send: Callable[[], list[Known]], count: int) -> list[TaskFuture]:
        self._listen()
        submit = self._ledger.begin()
        futures = [TaskFuture(self._cancel) for _ in range(count)]
        accepted: dict[str, TaskFuture] = {}
        try:
            found = send()
            for future, known in zip(futures, found, strict=True):
                future.task_id = known["taskId"]
                accepted[future.task_id] = future
        finally:
            over = self._ledger.entered(submit, accepted)
        for future, known in over:
            self._resolve(future, known)
        for known in found:
            self._heard(known)
        if self._broken is not None:
            self._fail(self._broken)  # it did while this was under way
        self._tell()
        return futures

    # -- hearing

    def _listen(self) -> None:
        """The stream of events is open from now on. Raises what has kept it from that."""
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot submit after shutdown")
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name=f"tasks of {self.name}", daemon=True)
                self._watcher.start()
        self._listening.wait()
        if self._broken is not None:
            raise BrokenExecutor(f"no news of tasks any more: {self._broken}") from self._broken

    def _watch(self) -> None:
        signs = self._client.hear(self._stream)
        looked, pause = time.monotonic(), LOOK_SECONDS
        try:
            for sign in signs:
                self._listening.set()
                if sign is not None:
                    self._heard(sign)
                    self._tell()
                if time.monotonic() - looked > pause:
                    begun = time.monotonic()
                    self._look()
                    looked = time.monotonic()
                    pause = max(LOOK_SECONDS, LOOK_SHARE * (looked - begun))
        except BaseException as error:  # whatever it is: nobody waits for ever
            self._broken = error
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._listening.set()
            self._tell()

    def _heard(self, known: Known) -> None:
        """Take note of how a task is."""
        future, over = self._ledger.heard(known)
        if future is None:
            return
        if over:
            self._resolve(future, known)
        elif known["state"] not in _WAITING:
            _run(future)

    def _look(self) -> None:
        """Find out of which tasks the end was missed."""
        waiting = self._ledger.waiting()
        if not waiting:
            return
        active = self._client.list(tag=f"{TAG}={self.name}", state=",".join(NOT_OVER), limit=CHUNK)
        for task in active:
            waiting.pop(task["taskId"], None)
        for task_id in waiting:
            try:
                self._heard(self._client.get(task_id))
            except NotFound as error:
                if (future := self._ledger.take(task_id)) is not None:
                    _run(future)
                    future.set_exception(error)
        self._tell()

    def _resolve(self, future: TaskFuture, known: Known) -> None:
        """The task of a future that has been taken out of the books is over."""
        if future.cancelling and known["outcome"] == "cancelled" and not future.running():
            Future.cancel(future)
            future.set_running_or_notify_cancel()
            return
        _run(future)
        future.set_result(TaskResult(_client=self._client, **ending_of(known)))

    def _fail(self, error: BaseException) -> None:
        for task_id in self._ledger.waiting():
            if (future := self._ledger.take(task_id)) is not None:
                _run(future)
                future.set_exception(error)

    # -- ending

    def _cancel(self, future: TaskFuture) -> bool:
        """Whether a task was kept from starting: put off first, which the daemon does to none that has started."""
        future.cancelling = True
        try:
            self._client.reschedule(future.task_id, NEVER)
            known = self._client.stop(future.task_id, wait=30)
        except (Conflict, NotFound):
            future.cancelling = False
            return future.cancelled()
        self._heard(known)
        self._tell()
        if is_over(known):
            _until_done(future)
        return future.cancelled()

    def _tell(self) -> None:
        with self._lock:
            self._lock.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; ``cancel_futures``: cancel what has not started; ``wait``: until all the others are over.

        Without ``wait`` futures are resolved as long as this process lives. Tasks go on in any case.
        """
        with self._lock:
            self._closed = True
        if cancel_futures:
            for future in self._ledger.waiting().values():
                future.cancel()
        if wait:
            self._end()
        elif self._watcher is not None:
            threading.Thread(target=self._end, name=f"end of {self.name}", daemon=True).start()

    def _end(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not len(self._ledger))
        self._stream.cut_off()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
        if self._owned:
            self._client.close()


#: two threads may learn at once that a task runs
_RUNNING = threading.Lock()


def _run(future: TaskFuture) -> None:
    """Its task has started, as far as the future does not know yet."""
    with _RUNNING:
        if not future.running() and not future.done():
            future.set_running_or_notify_cancel()


def _until_done(future: TaskFuture) -> None:
    """Its task is over, but another thread may have heard of that first, and be about to tell it."""
    try:
        future.exception()
    except CancelledError:
        pass


def _in_order(futures: list[TaskFuture], end: float | None) -> Iterator[TaskResult]:
    """Results from the end of the list; each future is let go with its result."""
    try:
        while futures:
            yield futures[-1].result(None if end is None else max(0.0, end - time.monotonic()))
            futures.pop()
    finally:
        for future in futures:
            try:
                future.cancel()
            except TaskRunnerError:
                pass  # it was promised to nobody that this reaches the daemon

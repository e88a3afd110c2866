"""What an export has in it. Nothing is held in memory but what the API answers as one JSON value."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from task_runner import __version__
from task_runner.cli.output import clean
from task_runner.client import ApiError, Client, Task, Unauthorized, Unavailable, is_over
from task_runner.client.blocking import Opened
from task_runner.errors import TaskRunnerError

#: seconds without an event after which there are no more of a task that goes on
QUIET = 0.5


class Evidence:
    """One archive. ``listener``: a client that tells nobody when its stream is cut off. ``spool`` makes a temporary
    file; ``pid``: the daemon's, if it is on this machine."""

    def __init__(
        self,
        client: Client,
        listener: Client,
        task: Task,
        out: BinaryIO,
        spool: Callable[[], BinaryIO],
        *,
        pid: int | None,
    ) -> None:
        self._client, self._listener, self._task, self._spool, self._pid = client, listener, task, spool, pid
        self._id = task["taskId"]
        # tarfile's own compression is of the slowest kind
        self._tap = _Tap(out)
        self._packed = gzip.GzipFile(fileobj=self._tap, mode="wb", compresslevel=6, filename="")
        self._tar = tarfile.open(fileobj=self._packed, mode="w|")  # noqa: SIM115  closed in `collect`
        self._written: list[str] = []
        #: what is missing, and why
        self.left_out: list[str] = []

    def collect(self, *, with_files: bool) -> None:
        """Write it all. Raises TaskRunnerError where the daemon cannot be asked any more.

        An archive that is not whole has no end, so that nobody takes it for one that is.
        """
        try:
            self._collect(with_files)
            self._close()
        except BaseException:
            self._tap.shut = True
            self._close()
            raise

    def _close(self) -> None:
        self._tar.close()
        self._packed.close()

    def _collect(self, with_files: bool) -> None:
        client, task_id = self._client, self._id
        if not is_over(self._task):
            self._note("its end", f"the task is {self._task['state']}")
        self._json("task.json", lambda: self._task, "the task as GET /v1/tasks/ID shows it, with its spec")
        self._json("explain.json", lambda: client.explain(task_id), "why it waits, what it does, how it ended")
        self._lines("events.jsonl", self._events, "every change of it, in order")
        for number in range(1, self._task["attempt"] + 1):
            self._attempt(number)
        self._lines("files.jsonl", lambda: client.files.list(task_id, recursive=True), "what is in its directory")
        if with_files:
            about = "its working directory"
            self._stream("files.tar", lambda: client.files.archive(task_id, kind="tar"), about)
        else:
            self._note("files.tar", "--files puts the files themselves into it")
        self._json("notifications.json", lambda: client.notifications(task_id), "what webhooks were told")
        self._json("node.json", client.node, "the daemon, its version, what this machine can do")
        self._json("settings.json", self._settings, "the settings that the daemon was started with")
        self._add("README.txt", self._readme())

    # -- the parts

    def _attempt(self, number: int) -> None:
        self._json(f"attempts/{number}.json", lambda: self._client.attempt(self._id, number), f"attempt {number}")
        separate = self._task["spec"].get("outputMode") == "separate"
        for stream in ("stdout", "stderr") if separate else (None,):

            def read(stream: str | None = stream) -> Iterator[bytes]:
                return self._client.iter_output(self._id, attempt=number, stream=stream)

            about = "what it wrote; a line marks bytes that are not kept"
            self._stream(f"output/{number}{f'.{stream}' if stream else ''}.log", read, about)

    def _events(self) -> Iterator[Any]:
        """All until now. The stream of a task that goes on has no end: it is cut off when nothing more comes."""
        stream, heard = Opened(), [time.monotonic()]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(QUIET / 5):
                if heard[0] + QUIET < time.monotonic():
                    stream.cut_off()
                    return

        watcher: threading.Thread | None = None
        try:
            for event in self._listener.hear(stream, self._id):
                heard[0] = time.monotonic()
                if watcher is None and not is_over(self._task):  # it is open: now the time counts
                    watcher = threading.Thread(target=watch, name="quiet", daemon=True)
                    watcher.start()
                if event is not None:
                    yield event
        except TaskRunnerError:
            if not stream.cut.is_set():
                raise
        finally:
            done.set()

    def _settings(self) -> Any:
        if self._pid is None or not self._client.local:
            raise _Missing("the API does not tell them; `task-runner config show` on the daemon's machine does")
        try:
            with open(f"/proc/{self._pid}/environ", "rb") as file:
                words = [os.fsdecode(each).partition("=") for each in file.read().split(b"\0") if b"=" in each]
        except OSError as error:
            raise _Missing(f"/proc/{self._pid}/environ: {error.strerror}") from None
        from task_runner.service.origins import origins

        return [dataclasses.asdict(each) for each in origins(None, {name: value for name, _, value in words})]

    def _readme(self) -> bytes:
        about = [
            f"Task {self._id}, as Task Runner knew it at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}.",
            f"Written by task-runner {__version__} from {self._client.url}.",
            "",
            "In it:",
            *self._written,
            "",
            "Not in it:",
            *(f"  {each}" for each in self.left_out),
            "  the values of secrets: the API does not have them",
            "",
            "What was given in the clear is here in the clear: variables in the spec, words of commands, passwords and",
            "tokens in addresses, and what the command wrote. Look through it before you give it to others.",
            "",
        ]
        return "\n".join(about).encode()

    # -- how they come into the archive

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Where it is refused that is noted, and the others go on. Where nobody answers any more all ends."""
        try:
            yield
        except (Unauthorized, Unavailable):
            raise
        except ApiError as error:
            self._note(name, f"{error} (status {error.status})")
        except _Missing as error:
            self._note(name, str(error))

    def _json(self, name: str, ask: Callable[[], Any], about: str) -> None:
        with self._part(name):
            self._add(name, (json.dumps(ask(), ensure_ascii=False, indent=2) + "\n").encode(), about)

    def _lines(self, name: str, ask: Callable[[], Iterable[Any]], about: str) -> None:
        self._stream(name, lambda: ((json.dumps(each, ensure_ascii=False) + "\n").encode() for each in ask()), about)

    def _stream(self, name: str, ask: Callable[[], Iterable[bytes]], about: str) -> None:
        """A tar has the length in front, so it goes by the disk first."""
        with self._part(name), self._spool() as file:
            for chunk in ask():
                file.write(chunk)
            length = file.tell()
            file.seek(0)
            self._member(name, file, length, about)

    def _add(self, name: str, data: bytes, about: str = "this") -> None:
        self._member(name, io.BytesIO(data), len(data), about)

    def _member(self, name: str, content: BinaryIO, length: int, about: str) -> None:
        found = tarfile.TarInfo(f"{self._id}/{name}")
        found.size, found.mtime, found.mode = length, int(time.time()), 0o600
        self._tar.addfile(found, content)
        self._written.append(f"  {name:<24}{about}")

    def _note(self, name: str, why: str) -> None:
        self.left_out.append(clean(f"{name}: {why}"))


class _Tap(io.RawIOBase):
    """Where the archive goes, until it is shut."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.shut = out, False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.shut:
            self._out.write(data)
        return len(data)


class _Missing(Exception):
    """This part is not to be had."""

"""Machines carried out beside the tests, and web sites for them that do whatever a test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@dataclass
class Ended:
    """How a machine ended; a negative code is a signal."""

    code: int
    output: str
    progress: list[str]


@dataclass
class Bench:
    """A working directory to carry out machines in; `away` lies beside it, and is none of theirs."""

    process: subprocess.Popen[str]
    work: Path
    away: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, machine: str, parameters: Any, **context: Any) -> Ended:
        self.start(machine, parameters, **context)
        return self.end()

    def start(self, machine: str, parameters: Any, **context: Any) -> int:
        """Returns the pid of the machine."""
        self._fifo = self.work.parent / "progress"
        if not self._fifo.exists():
            os.mkfifo(self._fifo)
        self._progress = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        env = {"PATH": os.environ.get("PATH", os.defpath), **self.env}
        given = {"work": str(self.work), "env": env, "progress": str(self._fifo), **context}
        order = {"machine": machine, "parameters": parameters, "output": str(self.output), "context": given}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> Ended:
        code = int(self._line())
        told = b""
        try:
            while True:
                told += os.read(self._progress, 65536)
        except BlockingIOError:
            pass
        os.close(self._progress)
        return Ended(code, self.output.read_text(errors="replace"), told.decode().splitlines())

    @property
    def output(self) -> Path:
        return self.work.parent / "output"

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process that carries out machines has ended"
        return line

    def files(self) -> set[str]:
        """All there is in the working directory, but directories."""
        return {str(each.relative_to(self.work)) for each in self.work.rglob("*") if not each.is_dir() or each.is_symlink()}


@contextmanager
def talking(tool: str) -> Iterator[subprocess.Popen[str]]:
    """A tool of tests/tools that reads orders and answers, a line each."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/tools" / tool)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def machines() -> Iterator[subprocess.Popen[str]]:
    """The process that carries out machines, one after the other."""
    with talking("machines.py") as process:
        yield process


@pytest.fixture
def bench(machines: subprocess.Popen[str], tmp_path: Path) -> Bench:
    """A working directory of its own for each test."""
    (tmp_path / "work").mkdir()
    (tmp_path / "away").mkdir()
    return Bench(machines, tmp_path / "work", tmp_path / "away")


# -- web sites

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; what is answered is the test's to say."""

    protocol_version = "HTTP/1.1"
    server: Site

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True  # the client has gone, as some tests want it to

    def _serve(self) -> None:
        self.server.requests.append(self)
        self.close_connection = True
        answers = self.server.answers.get(self.path.partition("?")[0])
        if answers is None:
            self.reply(404, b"no such page")
            return
        answers[min(sum(each.path == self.path for each in self.server.requests), len(answers)) - 1](self)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass

    def head(self, status: int, **headers: object) -> None:
        """The head alone; `content_length` is Content-Length."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-").title(), str(value))
        self.end_headers()
        self.wfile.flush()

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.head(status, content_length=len(body), **headers)
        self.wfile.write(body)

    def start_of_range(self) -> int | None:
        """What a Range asks for; none: the whole."""
        wanted = self.headers.get("Range")
        return None if wanted is None else int(wanted.removeprefix("bytes=").removesuffix("-"))


class Site(ThreadingHTTPServer):
    """Answers each path in the given ways, one after the other, and then always in the last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[Handler] = []
        self.scheme = "http"

    def on(self, path: str, *answers: Answer) -> str:
        """Returns the URL."""
        self.answers[path] = list(answers)
        return self.url(path)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_address[1]}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that does not like our certificate


@pytest.fixture
def make_site() -> Iterator[Callable[[], Site]]:
    """Makes web sites, each in a thread; all are ended."""
    sites: list[tuple[Site, threading.Thread]] = []

    def make() -> Site:
        site = Site()
        thread = threading.Thread(target=site.serve_forever, args=(0.05,))
        thread.start()
        sites.append((site, thread))
        return site

    yield make
    for site, thread in sites:
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    """A web site."""
    return make_site()

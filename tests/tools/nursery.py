"""Forks programs for tests, from a process that has loaded what they import: `nursery.py KIND FD`.

Most of what the start of a daemon, of a verb or of a runner costs is its imports, and tests start thousands. Here they
are done once. KIND is one of `KINDS`, FD a socket that keeps messages apart. Each message is a request in JSON,
{"env": {…}, "cwd": …, "session": whether it leads a session of its own, "arguments": […]}, sent with descriptors: one
end of a socket pair, on which first the pid is said, with a descriptor of the process, and at its end its wait status;
its standard input, output and error; and what else the kind wants. If it "follows" a process, a descriptor of that is
the last.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

Program = Callable[[Sequence[str], Sequence[int]], None]
#: of the tell-tale, the standard streams, a listening socket and the nursery of launchers
MOST_DESCRIPTORS = 6


def daemon() -> Program:
    """A daemon on a listening socket; its launcher comes from the nursery whose socket follows, if one does.

    `arguments`: none; or `-c CODE`, what it does to itself first; or, and then there is no listening socket, `-m MODULE …`:
    serve, gunicorn or uvicorn. What would execute another program goes on as that.
    """
    import inotify_simple
    import uvicorn

    from task_runner.api.star_app import create_app
    from task_runner.environment import launching

    # the module of tests; this file, which is a program, has the same name
    place = importlib.util.spec_from_file_location("nurseries", Path(__file__).parent.parent / "nursery.py")
    assert place is not None and place.loader is not None
    nurseries = importlib.util.module_from_spec(place)
    place.loader.exec_module(nurseries)
    # what is loaded at the start of a daemon rather than with its modules
    config = uvicorn.Config(_no_app, access_log=False)
    config.load()
    config.get_loop_factory()
    inotify_simple.INotify().close()  # asks ldconfig where the C library is
    importlib.import_module("anyio._backends._asyncio")  # with the first streamed response
    importlib.import_module("encodings.idna")  # with the first host name

    def serve(arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        _arm()
        sys.path += [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each not in sys.path]
        option, given = arguments[:1], arguments[1:]
        listeners, asks = ([], descriptors) if option == ["-m"] else (descriptors[:1], descriptors[1:])
        if asks:
            launching.subprocess = _forking_launchers(nurseries, asks[0])  # type: ignore[attr-defined]
        if option == ["-m"]:
            os.execv = lambda _python, command: _run_module(command[2:])  # type: ignore[assignment,misc]
            _run_module(given)
        if option == ["-c"]:
            exec(given[0], {})
        server = uvicorn.Server(uvicorn.Config(create_app(), access_log=False, timeout_graceful_shutdown=5))
        server.run(sockets=[socket.socket(fileno=each) for each in listeners])

    return serve


def _run_module(arguments: Sequence[str]) -> NoReturn:
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    sys.exit()


async def _no_app(_scope: Any, _receive: Any, _send: Any) -> None:
    """For a configuration of the server, which wants one."""


def _arm() -> None:
    from task_runner.lib import failpoint

    failpoint._ARMED.update(failpoint._read(os.environ.get("TASK_RUNNER_FAILPOINT", "")))  # read at import


def _forking_launchers(nurseries: ModuleType, asks: int) -> Any:
    """In a daemon: what starts its launcher, in place of `subprocess`."""
    os.set_inheritable(asks, False)
    nurseries.adopt("launcher", socket.socket(fileno=asks))
    groups = _groups()

    def begin(command: Sequence[str], *, env: dict[str, str], **streams: int) -> Any:
        if _groups() != groups:
            return subprocess.Popen(command, env=env, **streams)  # the daemon has moved, and its launcher with it
        return nurseries.Forked("launcher", *command, env=env, follows=True, **streams)

    return SimpleNamespace(Popen=begin)


def _groups() -> str:
    return Path("/proc/self/cgroup").read_text(encoding="utf-8")


def launcher() -> Program:
    """A launcher, which has loaded nothing else and has rehearsed; `arguments` are its whole command line."""
    from task_runner.lib import launcher
    from task_runner.lib.basics import base_environment

    options = b"{}"
    with tempfile.TemporaryDirectory() as directory:
        here, there = socket.socketpair()
        with here, there:
            launcher._prepare(launcher._Rehearsal(directory, options, here))
    launcher.REHEARSALS = 1

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        _arm()
        _call(arguments)
        base_environment.cache_clear()  # of what is there now
        base_environment()
        launcher.main(list(arguments[2:]))

    return run


def container_launcher() -> Program:
    """A launcher for daemons with a container engine: it has loaded what runners of containers load, each 0.2 s long."""
    run = launcher()
    for place in ("engines.docker", "machines.containers.standin", "machines.containers.removal", "machines.sidecar"):
        importlib.import_module(f"task_runner.{place}")
    import docker.types  # noqa: F401  with the first container

    return run


def _call(arguments: Sequence[str]) -> None:
    """Let the kernel show this command line for this process, as far as there is room (proc(5): arg_start, arg_end)."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    line = b"".join(os.fsencode(each) + b"\0" for each in arguments)[: end - begin - 1]
    ctypes.memmove(begin, line.ljust(end - begin, b"\0"), end - begin)


def verb() -> Program:
    """The command `task-runner`."""
    from task_runner.cli.entry import main as begin
    from task_runner.cli.main import COMMANDS

    for place in COMMANDS.values():
        importlib.import_module(f"task_runner.cli.{place.partition(':')[0]}")
    _load_client()

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        sys.argv = ["task-runner", *arguments]
        begin()

    return run


def _load_client() -> None:
    """What the client of the API imports when it sends something."""
    import encodings.idna  # noqa: F401

    import httpx

    import task_runner.client.wire  # noqa: F401

    httpx.Client().close()


def runner() -> Program:
    """A runner alone; as in real life, it is forked from a process that has loaded nothing else."""
    import attempt

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        attempt.main(arguments)

    return run


def sayer() -> Program:
    """A runner alone, with a machine that says what a test wants."""
    import sayer

    follow = runner()

    def run(arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        sayer.begin()
        follow(arguments, descriptors)

    return run


def python() -> Program:
    """`python3 -W error -`, which reads its program; it has loaded what samples of the client import."""
    import warnings

    warnings.simplefilter("error")
    import task_runner.client

    for each in task_runner.client.__all__:
        getattr(task_runner.client, each)
    _load_client()

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        assert list(arguments) == ["-W", "error", "-"], arguments
        sys.argv, sys.path[0] = ["-"], ""
        main = ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), vars(main))

    return run


def drove() -> Program:
    """The command `drove` of the package drove-cli: its script, when what that imports is there."""
    import droveutils  # noqa: F401
    from drovecli import DroveCli  # noqa: F401  it loads its plug-ins

    script = os.path.join(os.path.dirname(sys.executable), "drove")

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")

    return run


KINDS = {each.__name__: each for each in (daemon, launcher, container_launcher, verb, python, runner, sayer, drove)}


class Nursery:
    """The forked programs of one kind, and who wants to know of their ends."""

    def __init__(self, asks: socket.socket) -> None:
        self._asks = asks
        self._children: dict[int, tuple[int, socket.socket]] = {}
        #: a descriptor of who is followed, and of who follows and is killed after it
        self._followed: dict[int, int] = {}

    def next(self) -> tuple[dict[str, Any], list[int]] | None:
        """None in the nursery, for ever. In a forked child: what it shall be."""
        poll = select.poll()
        poll.register(self._asks, select.POLLIN)
        while True:
            fd, _event = poll.poll()[0]  # one at a time: what is done about it may close others
            if fd in self._followed:
                signal.pidfd_send_signal(self._followed[fd], signal.SIGKILL)
                poll.unregister(fd)
                continue
            if fd != self._asks.fileno():
                poll.unregister(fd)
                self._end(fd, poll)
                continue
            ask, descriptors = self._hear()
            tell, *given = descriptors
            pid = os.fork()
            if pid == 0:
                self._forget(tell)
                return ask, given
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = (pid, socket.socket(fileno=tell))
            poll.register(pidfd, select.POLLIN)
            if ask["follows"]:
                self._followed[leader := given.pop()] = pidfd
                poll.register(leader, select.POLLIN)
            for each in given:
                os.close(each)
            try:
                socket.send_fds(self._children[pidfd][1], [b"%d" % pid], [pidfd])
            except OSError:
                pass  # nobody wants to know

    def _hear(self) -> tuple[dict[str, Any], list[int]]:
        data, ancillary, _flags, _address = self._asks.recvmsg(1 << 20, socket.CMSG_SPACE(4 * MOST_DESCRIPTORS))
        if not data:
            for pid, _tell in self._children.values():
                os.kill(pid, signal.SIGKILL)  # our own child, not waited for
            sys.exit(0)
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        return json.loads(data), list(descriptors)

    def _end(self, pidfd: int, poll: select.poll) -> None:
        for leader in [leader for leader, follower in self._followed.items() if follower == pidfd]:
            del self._followed[leader]
            with contextlib.suppress(KeyError):
                poll.unregister(leader)
            os.close(leader)
        pid, tell = self._children.pop(pidfd)
        os.close(pidfd)
        _pid, status = os.waitpid(pid, 0)
        with tell:
            try:
                tell.sendall(b"%d" % status)
            except OSError:
                pass  # nobody wants to know

    def _forget(self, tell: int) -> None:
        """In the child: nothing is left of the nursery."""
        os.close(tell)
        self._asks.close()
        for pidfd, (_pid, other) in self._children.items():
            os.close(pidfd)
            other.close()
        for leader in self._followed:
            os.close(leader)


def become(ask: dict[str, Any], descriptors: Sequence[int]) -> None:
    """All that a child has of its own is what was asked for."""
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
        os.close(each)
    for name in ("stdin", "stdout", "stderr"):
        _open_anew(name)
    os.environ.clear()
    os.environ.update(ask["env"])
    time.tzset()
    os.chdir(ask["cwd"])
    if ask["session"]:
        os.setsid()


def _open_anew(name: str) -> None:
    """As the interpreter opens them at its start: whether a stream is a terminal decides how it is buffered."""
    old = getattr(sys, name)
    mode, buffering = ("r", -1) if name == "stdin" else ("w", 1 if name == "stderr" else -1)
    new = open(old.fileno(), mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)


def main() -> None:
    program = KINDS[sys.argv[1]]()
    asks = socket.socket(fileno=int(sys.argv[2]))
    gc.collect()
    gc.freeze()
    asked = Nursery(asks).next()
    assert asked is not None
    ask, descriptors = asked
    if ask["follows"]:
        os.close(descriptors.pop())
    become(ask, descriptors)
    _end_after(lambda: program(ask["arguments"], descriptors[3:]))


def _end_after(program: Callable[[], None]) -> None:
    """What the interpreter does when a program ends, but for taking down all modules: of a forked program that takes
    longer than the rest of most verbs, for it copies every page of the nursery."""
    code = 0
    try:
        program()
    except SystemExit as asked:
        if asked.code is not None and not isinstance(asked.code, int):
            raise
        code = asked.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception as fault:
            print(f"Exception ignored in: {stream!r}\n{type(fault).__name__}: {fault}", file=sys.__stderr__)
            code = 120
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()

"""A command in a sandbox: bubblewrap makes it and keeps it, and the command is started inside by us.

bubblewrap tells of a command that it has started itself only a number, in which exit code 143 and death by SIGTERM are
the same. So it starts `cat` as the first process inside, and we join (machines/namespaces.py) and wait ourselves.
Nothing inside can reach who waits. `cat` answers when the sandbox is ready, and ends with whoever holds its input;
the kernel then kills all that is left inside.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from task_runner.errors import StartFailed
from task_runner.machines import fork, namespaces, process, target, walls
from task_runner.machines.base import Context
from task_runner.machines.namespaces import Held
from task_runner.machines.sandboxview import Shown, View, arguments, exchanged, look
from task_runner.machines.walls import Walls
from task_runner.model.grant import GrantedAccount
from task_runner.model.machines import ProcessParameters
from task_runner.model.walls import Mount, Sandbox

#: of the namespaces that bubblewrap makes; the network's only where it has made one
_KINDS = ("pid", *namespaces.KINDS)
#: bytes of what bubblewrap says that are kept
_LONGEST = 2000


@dataclass(slots=True)
class Running:
    """A sandbox that is ready. A Place (machines/wrapper.py)."""

    #: bubblewrap's own process, our child, and a pidfd of the first one inside
    keeper: int
    first: int
    #: `cat` ends when it is closed
    string: int
    held: Held
    account: GrantedAccount | None
    env: dict[str, str]
    directory: str

    def begin(self) -> None:
        self.held.begin()

    def enter(self) -> None:
        walls.forget_keys()
        if self.account is not None:  # inside, groups cannot be changed
            walls.give_pipes(self.account.uid, self.account.gid)
            os.setgroups(self.account.groups)
            os.setresgid(self.account.gid, self.account.gid, self.account.gid)
        self.held.enter()
        namespaces.own_cgroups()
        walls.keep_within(0)
        if self.account is not None:
            os.setresuid(self.account.uid, self.account.uid, self.account.uid)
        walls.drop_capabilities()

    def execute(self, argv: list[str]) -> NoReturn:
        process.execute(argv, self.env)

    def close(self) -> None:
        """End all that is left inside; returns when nothing is."""
        os.close(self.string)
        try:
            signal.pidfd_send_signal(self.first, signal.SIGKILL)
        except OSError:
            pass
        poll = select.poll()
        poll.register(self.first, select.POLLIN)
        poll.poll()  # it ends when everybody else in its pid namespace has
        os.kill(self.keeper, signal.SIGKILL)  # our child, not yet waited for
        os.waitpid(self.keeper, 0)


def make(wanted: ProcessParameters, context: Context) -> Running:
    """Make a sandbox for a command. Raises StartFailed."""
    assert wanted.sandbox is not None
    account = context.walls.account if context.walls is not None else None
    env = {**context.env, **wanted.env}
    if "TMPDIR" not in context.given and "TMPDIR" not in wanted.env:
        env.pop("TMPDIR", None)  # it is the daemon's, and need not be there inside
    view = _view(wanted.sandbox, context, env.get("HOME"), account)
    mounts = look(view)
    keeper = _Keeper(_program(context.env.get("PATH", "")), arguments(view, mounts), account)
    try:
        first, held = keeper.hold(mounts)
    except (OSError, ValueError) as error:
        raise StartFailed(f"sandbox: {keeper.fault() or error}") from None
    return Running(
        keeper=keeper.pid,
        first=first,
        string=keeper.string,
        held=held,
        account=account,
        env=env,
        directory=os.path.join(context.work, wanted.working_directory or ""),
    )


def _view(wanted: Sandbox, context: Context, home: str | None, account: GrantedAccount | None) -> View:
    work = os.path.realpath(context.work)
    state = os.path.realpath(os.path.dirname(context.locks)) if os.path.basename(context.locks) == "locks" else None
    own = [(context.secret_files, True), (context.given.get("TASK_RUNNER_PROGRESS"), False)]
    return View(
        work=context.work,
        own=[Mount(source=path, read_only=ro) for path, ro in own if path is not None and os.path.exists(path)],
        hidden=[state or os.path.dirname(work)],
        mounts=wanted.mounts,
        network=wanted.network,
        home=home if home is not None and home.startswith("/") else None,
        rootless=os.geteuid() != 0 or (account is not None and account.uid != 0),
    )


def _program(path: str) -> str:
    for directory in (*path.split(os.pathsep), *os.defpath.split(os.pathsep)):
        if os.access(candidate := os.path.join(directory, "bwrap"), os.X_OK):
            return candidate
    raise StartFailed("sandbox: bubblewrap is not installed (there is no program bwrap)")


class _Keeper:
    """bubblewrap, and the pipes by which we know how far it is."""

    def __init__(self, program: str, words: list[str], account: GrantedAccount | None) -> None:
        told, tell = os.pipe2(os.O_CLOEXEC)
        feed, self.string = os.pipe2(os.O_CLOEXEC)
        self._echo, echo = os.pipe2(os.O_CLOEXEC)
        self._says, says = os.pipe2(os.O_CLOEXEC)
        self._told = told
        us = os.getpid()

        def become() -> NoReturn:
            _become(us, (feed, echo, says), tell, [program, "--info-fd", str(tell), *words], account)

        self.pid = fork.fork(become)
        for fd in (tell, feed, echo, says):
            os.close(fd)

    def hold(self, mounts: Sequence[Shown]) -> tuple[int, Held]:
        """A pidfd of the first process inside, and the namespaces, when all is ready, with these mounts.
        Raises OSError, ValueError."""
        data = b""
        while b"}" not in data:
            piece = os.read(self._told, 4096)
            if not piece:
                raise ValueError("bwrap has ended")
            data += piece
        inside = int(json.loads(data)["child-pid"])
        first = os.pidfd_open(inside)
        os.write(self.string, b"?")
        poll = select.poll()
        for fd in (self._echo, first):
            poll.register(fd, select.POLLIN)
        # bwrap's own process keeps the pipe open whatever becomes of the one inside
        if (self._echo, select.POLLIN) not in poll.poll():
            raise ValueError("bwrap has ended")
        held = namespaces.hold(inside, _KINDS)  # it has answered since the pidfd was opened, so it is no other
        _compare(mounts, inside)
        for fd in (self._told, self._echo, self._says):
            os.close(fd)
        return first, held

    def fault(self) -> str:
        """End it; returns what it had to say."""
        os.kill(self.pid, signal.SIGKILL)  # our child, not yet waited for
        os.waitpid(self.pid, 0)
        os.set_blocking(self._says, False)
        try:
            text = os.read(self._says, _LONGEST)
        except BlockingIOError:
            text = b""
        return " ".join(text.decode(errors="replace").split())


def _compare(mounts: Sequence[Shown], first: int) -> None:
    """Raises OSError, ValueError."""
    root = os.open(f"/proc/{first}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def inside(path: str) -> os.stat_result:
        fd = target.open_path(path, root=root)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    try:
        other = exchanged(mounts, inside)
    finally:
        os.close(root)
    if other is not None:
        raise ValueError(f"mounts.{other.index}: there is something else at {other.target} than was looked at")


def _become(
    us: int, streams: tuple[int, int, int], tell: int, argv: list[str], account: GrantedAccount | None
) -> NoReturn:
    """bubblewrap. All signals stay blocked: a stop is for what runs inside, and who keeps the sandbox outlives it."""
    try:
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        # the kernel reaps: `cat` does not wait for what is orphaned inside, nor is it to fill up with zombies
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if account is not None:
            walls.enter(Walls(account=account))
        if os.geteuid() != 0:
            walls.drop_capabilities()  # a daemon may have been given some; bubblewrap takes none
        fork.die_with(us)
        os.set_inheritable(tell, True)
        os.execve(argv[0], [*argv, "--as-pid-1", "--", "/bin/cat"], {"PATH": os.defpath, "LC_ALL": "C"})
    except (OSError, StartFailed) as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(1)

"""A command inside another container: in the namespaces of its main process, with its root directory and environment.

Rule 1: the target may be hostile. What is found in its files is opened by no link of /proc (one could lead back to our
        own program, which is the host's), and until it has become the command our process cannot be looked into.
Rule 2: nobody gets more there than the target has: no capability beyond its bounding set, and no_new_privs.
Rule 3: nothing is imported inside: what has the name of a module there is the target's.

Where the command cannot see the task's working directory, and there is something in it, it finds a copy: in a directory
made for it in the target, which is removed at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from task_runner.errors import StartFailed, TaskRunnerError
from task_runner.machines import carry, fork, process, program, target, walls
from task_runner.machines.base import Context
from task_runner.machines.target import SIDECAR, Target, User
from task_runner.model.machines import ProcessParameters
from task_runner.model.walls import Namespace, Sidecar

_libc = ctypes.CDLL(None)
_PR_SET_DUMPABLE = 4
#: as /proc/PID/ns has them
_KINDS = {Namespace.MOUNT: "mnt"}
#: names the copy of the working directory, where there is one
_FILES = "TASK_RUNNER_FILES"


class _Nothing:
    """Finds no module."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        raise ImportError(f"{name}: nothing is imported inside a target")


@dataclass(slots=True)
class Beside:
    """A place beside a target's main process (machines/wrapper.py)."""

    target: Target
    user: User
    #: the target's files are seen, and no others
    mounted: bool
    env: dict[str, str]
    directory: str
    #: a descriptor of this machine's /proc
    proc: int
    #: the directory made in the target; none: there is none
    copy: str | None = None

    def begin(self) -> None:
        self.target.held.begin()

    def enter(self) -> None:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        sys.meta_path[:] = [_Nothing]
        walls.forget_keys()
        held, user = self.target.held, self.user
        if held.user is None:  # else its numbers are others here
            walls.give_pipes(user.uid, user.gid)
        held.enter()
        if self.mounted:
            os.fchdir(self.target.root)
            os.chroot(".")
            os.fchdir(self.target.directory)
        capabilities = 0 if user.uid else self.target.bounding
        walls.keep_within(capabilities)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        walls.drop_capabilities(capabilities)  # at once, and not by the exec alone: the copy is made without one

    def execute(self, argv: list[str]) -> NoReturn:
        if not self.mounted:
            process.execute(argv, self.env)
        found, words = program.opened(argv, self.env.get("PATH", os.defpath), self.proc)
        os.execve(found, words, self.env)

    def close(self) -> None:
        if self.copy is None:
            return
        try:
            self.enter()  # by ourselves: a child could be killed, as one of those that are to be stopped
            carry.remove(self.copy)
        except (OSError, StartFailed):
            pass  # whatever the target has made of it, the command's end is known

    # -- the copy

    def bring(self, name: str, work: str, secrets: str | None) -> str:
        """Make a copy of the working directory, and of the secrets; returns its path there. Raises StartFailed."""
        source, sink = os.pipe2(os.O_CLOEXEC)
        answer, say = os.pipe2(os.O_CLOEXEC)

        def receive() -> NoReturn:
            os.close(sink)
            try:
                self.enter()
                os.umask(0o077)
                said = {"path": carry.receive(name, open(source, "rb"))}  # noqa: SIM115
            except (OSError, ValueError, EOFError, StartFailed) as error:
                said = {"fault": str(error)}
            os.write(say, json.dumps(said).encode())
            os._exit(0)

        pid = fork.fork(receive)
        os.close(source)
        os.close(say)
        fault = None
        try:
            with open(sink, "wb") as to:
                carry.send(work, "work", to)
                if secrets is not None:
                    carry.send(secrets, "secrets", to)
                carry.send_end(to)
        except (OSError, EOFError) as error:
            fault = f"files: {error}"
        with open(answer, "rb") as told:
            said = json.loads(told.read() or b'{"fault": "files: it cannot be done"}')
        os.waitpid(pid, 0)
        self.copy = said.get("path")
        if fault or self.copy is None:
            self.close()
            raise StartFailed(f"files: {said.get('fault') or fault}")
        return self.copy


def find(wanted: ProcessParameters, context: Context) -> Beside:
    """Find the target, and bring there what the command needs. Raises StartFailed."""
    sidecar = wanted.sidecar
    assert sidecar is not None
    kinds = [_KINDS.get(each, each.value) for each in sidecar.namespaces]
    found = _target(sidecar, context, kinds)
    mounted = Namespace.MOUNT in sidecar.namespaces
    root = found.root if mounted else os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    user = target.user(sidecar.user or "0", root)
    _see_that_it_may(context, found, user, mounted)
    place = Beside(
        target=found,
        user=user,
        mounted=mounted,
        env=_environment(wanted, context, found, user),
        proc=os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        directory=os.path.join("" if mounted else context.work, wanted.working_directory or "") or ".",
    )
    if mounted and (context.secret_files is not None or not carry.is_empty(context.work)):
        _bring(place, wanted, context)
    return place


def _see_that_it_may(context: Context, found: Target, user: User, mounted: bool) -> None:
    """Where tasks do not run as root, no sidecar is root among the files of this machine. Nor does one run there in the
    environment of somebody else, who could say by it what is loaded. Raises StartFailed."""
    ours = os.path.samestat(os.fstat(found.root), os.stat("/"))
    account = context.walls.account if context.walls is not None else None
    if account is not None and account.uid != 0 and (ours or not mounted):
        raise StartFailed(
            f"sidecar: process {found.pid} sees the files of this machine, where tasks run as {account.name}; join a "
            "container with files of its own"
        )
    if ours and mounted and found.held.user is None and not found.uids <= {0, user.uid}:
        raise StartFailed(
            f"sidecar: process {found.pid} sees the files of this machine and belongs to user {max(found.uids)}, in "
            "whose environment nobody else's command is run; name that user in sidecar.user, or a container"
        )


def _bring(place: Beside, wanted: ProcessParameters, context: Context) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # what is made there is to be removed as well
    name = f"task-runner-{context.task_id}-{os.urandom(4).hex()}"
    top = place.bring(name, context.work, context.secret_files)
    place.directory = os.path.join(top, "work", wanted.working_directory or "")
    place.env[_FILES] = f"{top}/work"
    if (secrets := context.secret_files) is not None:
        for variable, value in place.env.items():
            if value.startswith(f"{secrets}/"):
                place.env[variable] = f"{top}/secrets{value.removeprefix(secrets)}"


def _environment(wanted: ProcessParameters, context: Context, found: Target, user: User) -> dict[str, str]:
    """The target's, and the task's above it; of this machine's own nothing."""
    ours = {name: value for name, value in context.env.items() if name.startswith("TASK_RUNNER_")}
    ours |= context.given
    if Namespace.MOUNT not in (wanted.sidecar or Sidecar()).namespaces:
        # programs are this machine's, and what is in the target must not say what they load
        return {**context.env, **user.environment, **ours, SIDECAR: "1", **wanted.env}
    ours.pop("TASK_RUNNER_PROGRESS", None)  # a FIFO that it cannot see
    below: Mapping[str, str] = {"PATH": os.defpath, **user.environment, **found.environment}
    if wanted.sidecar is not None and wanted.sidecar.user is not None:
        below = {**below, **user.environment}
    return {**below, **ours, SIDECAR: "1", **wanted.env}


# -- the target


def _target(wanted: Sidecar, context: Context, kinds: list[str]) -> Target:
    if wanted.container is not None:
        return _container(wanted.container, wanted.engine, context, kinds)
    if wanted.mark is not None:
        found = target.hold(target.marked(wanted.mark), kinds)
        name, _, value = wanted.mark.partition("=")
        if found.environment.get(name) != value:
            raise StartFailed(f"sidecar: the process with the mark {wanted.mark} has ended")
        return found
    if wanted.pid is None:
        raise StartFailed("sidecar: neither container nor pid nor mark is given")
    return target.hold(wanted.pid, kinds)


def _container(name: str, engine: str | None, context: Context, kinds: list[str]) -> Target:
    """Asked in a process of its own, which loads the engine's library; and once more when the process is held: then it
    was no other's pid by then."""
    answers, say = os.pipe2(os.O_CLOEXEC)
    wait, go_on = os.pipe2(os.O_CLOEXEC)
    us = os.getpid()

    def ask() -> NoReturn:
        try:
            fork.die_with(us)
            os.close(go_on)
            _ask(name, engine, context, say, wait)
        finally:
            os._exit(0)

    helper = fork.fork(ask)
    os.close(say)
    os.close(wait)
    try:
        with open(answers, "rb") as told:
            found = target.hold(_pid(told.readline()), kinds)
            os.write(go_on, b"?")
            if _pid(told.readline()) != found.pid:
                raise StartFailed(f"sidecar: the container {name} was started anew just now")
    finally:
        os.close(go_on)
        os.waitpid(helper, 0)
    return found


def _ask(name: str, engine: str | None, context: Context, say: int, wait: int) -> None:
    said: dict[str, int | str]
    try:
        from task_runner.engines.find import open_engine

        opened = open_engine(engine, context.engines)
        while True:
            os.write(say, json.dumps({"pid": opened.main_pid(name)}).encode() + b"\n")
            if not os.read(wait, 1):
                return
    except TaskRunnerError as error:
        said = {"fault": str(error)}
    except Exception as error:  # of a library: it is told, whatever it is
        said = {"fault": f"{type(error).__name__}: {error}"}
    os.write(say, json.dumps(said).encode() + b"\n")


def _pid(line: bytes) -> int:
    said = json.loads(line or b'{"fault": "the engine was asked in vain"}')
    if "fault" in said:
        raise StartFailed(f"sidecar: {said['fault']}")
    return int(said["pid"])

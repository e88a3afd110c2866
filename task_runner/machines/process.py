"""The `process` machine: a command, started with posix_spawn.

posix_spawn shares the runner's memory until the exec (vfork), so a start costs the same however much the
runner holds; subprocess.Popen took 0.4 ms more of CPU for a command. What posix_spawn cannot do (change the
directory) the runner does for itself around the call: it has one thread, and nothing else that cares.

A command with walls to put around itself is forked, and does all that in the child.
"""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

from task_runner.errors import Damaged, StartFailed
from task_runner.machines import fork, oom, walls
from task_runner.machines.base import RESTORED, Context
from task_runner.machines.walls import Walls
from task_runner.model.codec import from_json
from task_runner.model.machines import ProcessParameters

_NO_WALLS = Walls()


def start(parameters: Any, context: Context) -> int:
    """Start the command in a session of its own; returns its pid. Raises StartFailed."""
    wanted = read(parameters)
    argv = words(wanted)
    env = {**context.env, **wanted.env}
    stdin = open_stdin(wanted, context)
    directory = os.path.join(context.work, wanted.working_directory or "")
    try:
        if context.walls is None or context.walls.plain:
            return _spawn(argv, env, stdin, directory, context)
        return _fork(argv, env, stdin, directory, context, context.walls)
    finally:
        os.close(stdin)


def read(parameters: Any) -> ProcessParameters:
    """Raises StartFailed."""
    try:
        return from_json(ProcessParameters, parameters)
    except Damaged as error:
        raise StartFailed(str(error)) from None


def words(wanted: ProcessParameters) -> list[str]:
    """Program and arguments. Raises StartFailed."""
    if wanted.command:
        return wanted.command
    if wanted.shell is None:
        raise StartFailed("neither command nor shell is given")
    return ["/bin/sh", "-c", wanted.shell]


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Become the command. Raises StartFailed, OSError."""
    os.execve(_find(argv[0], env.get("PATH", os.defpath)), argv, env)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise StartFailed(f"workingDirectory {directory}: {error.strerror}") from error


def _spawn(argv: list[str], env: dict[str, str], stdin: int, directory: str, context: Context) -> int:
    around = context.walls or _NO_WALLS
    actions = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, context.stdout, 1),
        (os.POSIX_SPAWN_DUP2, context.stderr, 2),
    ]

    def spawn() -> int:
        with oom.exposed():
            return os.posix_spawn(
                program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=RESTORED
            )

    mask = os.umask(around.umask)
    try:
        _enter(directory)
        program = _find(argv[0], env.get("PATH", os.defpath))
        return walls.born_inside(around, spawn) if around.join else spawn()
    except (OSError, ValueError) as error:
        raise not_started(argv[0], error) from error
    finally:
        os.umask(mask)
        os.chdir("/")


def _fork(
    argv: list[str], env: dict[str, str], stdin: int, directory: str, context: Context, around: Walls
) -> int:
    runner = os.getpid()

    def become(tell: int) -> NoReturn:
        try:
            fork.leave_runner(
                runner, stdin=stdin, stdout=context.stdout, stderr=context.stderr, kept=[tell]
            )
            walls.enter(around)
            fork.die_with(runner)
            # as the task's user, who may not reach what the daemon's does
            _enter(directory)
            program = _find(argv[0], env.get("PATH", os.defpath))
            walls.close_behind(around)
            fork.outlive()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execve(program, argv, env)
        except StartFailed as error:
            fork.fail(tell, str(error))
        except BaseException as error:
            fork.fail(tell, str(not_started(argv[0], error)))

    return fork.fork_and_hear(become)


def not_started(program: str, error: BaseException) -> StartFailed:
    """What is told of an error on the way to a command."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return StartFailed(f"{program}: {reason or type(error).__name__}")


def _find(program: str, path: str) -> str:
    """The program by the task's own PATH; posix_spawnp would search by the runner's. Raises StartFailed."""
    if "/" in program:
        return program
    for directory in path.split(os.pathsep):
        candidate = os.path.join(directory or ".", program)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise StartFailed(f"{program}: no such program in {path}")


def open_stdin(wanted: ProcessParameters, context: Context) -> int:
    """A descriptor to read from. A text is in memory, not in a pipe, so that nobody has to feed it."""
    if wanted.open_stdin and context.stdin is not None:
        return os.dup(context.stdin)
    text = wanted.stdin
    if not text:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin")
    with open(fd, "wb", closefd=False) as file:
        file.write(text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd

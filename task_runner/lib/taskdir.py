"""The directory of a task: which file stands where, and how each is opened safely.

    <id>/               0700; 0711 where the task's processes are another user's
      spec.json         what to run
      lock              see lib/lock.py
      status.json       see lib/statusfile.py
      output.log        what the commands wrote (or stdout.log and stderr.log, where the spec wants them apart)
      stop.json         how to stop, if a request says otherwise than the spec
      input, input.end  what was sent for the standard input, and that it is all (lib/inputspool.py)
      progress          a FIFO for lines of progress, while it runs
      machine.0.1       what another process has to know of a machine that runs something elsewhere (action 0, try 1)
      forward.json      what of the output was forwarded, where that was asked for (lib/forwarding/hold.py)
      secrets/          0700: secrets that commands want as files, while it runs
      work/             the working directory, which all attempts share
      attempts/2/…      all but spec.json and work/ of a second attempt, and so on

The first attempt's files stand at the top, where a person looks.
"""

from __future__ import annotations

import errno
import os
import stat

from task_runner.errors import Damaged

#: others can pass through a directory, and see nothing of what is in it
PASSABLE = 0o711
#: no control file is larger; whatever is, is not ours
MAX_CONTROL_BYTES = 16 * 1024 * 1024


class AttemptDirectory:
    """Where one attempt of a task keeps its files."""

    __slots__ = (
        "attempt", "task", "path", "spec", "lock", "status", "output", "stdout", "stderr", "stop", "input", "input_end",
        "progress", "forward", "secrets", "work",
    )  # fmt: skip

    def __init__(self, task: str, attempt: int) -> None:
        self.attempt = attempt
        #: the directory of the task
        self.task = task
        self.path = task if attempt == 1 else f"{task}/attempts/{attempt}"
        self.spec = f"{task}/spec.json"
        self.work = f"{task}/work"
        self.lock = f"{self.path}/lock"
        self.status = f"{self.path}/status.json"
        self.output = f"{self.path}/output.log"
        self.stdout = f"{self.path}/stdout.log"
        self.stderr = f"{self.path}/stderr.log"
        self.stop = f"{self.path}/stop.json"
        self.input = f"{self.path}/input"
        self.input_end = f"{self.path}/input.end"
        self.progress = f"{self.path}/progress"
        self.forward = f"{self.path}/forward.json"
        self.secrets = f"{self.path}/secrets"

    def create(self) -> None:
        """Make the directory; harmless where it exists."""
        for path in (self.task, f"{self.task}/attempts", self.path) if self.attempt > 1 else (self.task,):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
        try:
            os.mkdir(self.work, 0o700)
        except FileExistsError:
            pass

    def hand_over(self, uid: int, gid: int) -> None:
        """Let a user find the directory, to whom work/ belongs from now on. Raises OSError."""
        for path in (self.task, f"{self.task}/attempts", self.path) if self.attempt > 1 else (self.task,):
            os.chmod(path, PASSABLE)
        os.chown(self.work, uid, gid, follow_symlinks=False)


class TaskDirectories:
    """The directory that holds the directories of all tasks."""

    def __init__(self, path: str) -> None:
        self.path = path

    def attempt(self, task_id: str, attempt: int) -> AttemptDirectory:
        return AttemptDirectory(f"{self.path}/{task_id}", attempt)

    def ids(self) -> list[str]:
        """The tasks that have a directory. What has another kind of name is not ours."""
        with os.scandir(self.path) as entries:
            return [each.name for each in entries if _is_id(each.name) and each.is_dir(follow_symlinks=False)]

    def discard(self, task_id: str, attempt: int = 1) -> None:
        """Make the directory of a task (or of one later attempt) disappear at once, then remove it.

        A removal that is interrupted leaves a name with a dot, which `sweep` finishes.
        """
        source = self.attempt(task_id, attempt).path
        target = f"{self.path}/.gone-{task_id}-{os.urandom(4).hex()}"
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return
        remove_tree(target)

    def sweep(self) -> None:
        """Finish the removals that a dead daemon began."""
        for name in os.listdir(self.path):
            if name.startswith(".gone-"):
                remove_tree(f"{self.path}/{name}")


def _is_id(name: str) -> bool:
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def remove_tree(path: str) -> None:
    """Remove a directory that a task could write to: modes it took away are given back first.

    shutil.rmtree does not follow symbolic links and holds every directory by descriptor while it is in it.
    """
    import shutil  # here, because the launcher would load four libraries for it and never use them
    import subprocess

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        # a directory without permissions, or one deeper than Python's stack: the system's own tools mind neither
        for command in (["chmod", "-R", "u+rwx", "--", path], ["rm", "-rf", "--", path]):
            subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def open_regular(path: str) -> int:
    """Open a file to read, if it is a regular file and no link. Raises FileNotFoundError, Damaged, OSError.

    O_NONBLOCK, because opening a FIFO to read would wait for a writer.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Damaged(f"{os.path.basename(path)} is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Damaged(f"{os.path.basename(path)} is not a regular file")
    return fd


def read_control(path: str) -> bytes:
    """The content of a control file. Raises FileNotFoundError, Damaged, OSError."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        if size > MAX_CONTROL_BYTES:
            raise Damaged(f"{os.path.basename(path)} has {size} bytes")
        data = b""
        while len(data) < size and (chunk := os.read(fd, size - len(data))):
            data += chunk
        return data
    finally:
        os.close(fd)


def write_control(path: str, data: bytes) -> None:
    """Replace a control file as a whole: a reader sees the old one or the new one. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, path)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, or raise OSError: on a disk that is filling up, write(2) may take a part and say so."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def set_aside(path: str) -> str | None:
    """Move a damaged file out of the way, keeping it; returns its new path, None where it is gone."""
    target = f"{path}.damaged-{os.urandom(4).hex()}"
    try:
        os.rename(path, target)
    except FileNotFoundError:
        return None
    return target

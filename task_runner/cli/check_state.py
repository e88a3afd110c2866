"""Checks of the state directory and of the file system it lies on."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator

from task_runner.cli.check import Result, Verdict, attempt
from task_runner.cli.output import size

_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs")
_LITTLE_SPACE, _NO_SPACE = 1 << 30, 64 << 20
_FEW_INODES = 10_000


def check_state(path: str) -> Iterator[Result]:
    """The directory, what can be done in it, and how much room there is."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        yield Result("state directory", "warn", f"{path} does not exist", "`task-runner serve` makes it")
        return
    except OSError as error:
        yield Result("state directory", "fail", f"{path}: {error.strerror}", "work as the daemon's user")
        return
    yield _owner(path, found)
    yield _mode(path, found)
    if os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield from _trials(path)
        yield from _token(os.path.join(path, "token"))
    yield _file_system(path)
    yield from _room(path)


def _owner(path: str, found: os.stat_result) -> Result:
    owner = _user(found.st_uid)
    if not stat.S_ISDIR(found.st_mode):
        return Result("state directory", "fail", f"{path} is not a directory", "remove it, or choose another")
    if found.st_uid == os.geteuid():
        return Result("state directory", "ok", f"{path}, owned by {owner}")
    remedy = f"work as {owner}, or choose another directory with TASK_RUNNER_STATE_DIR"
    return Result("state directory", "warn", f"{path} belongs to {owner}, you are {_user(os.geteuid())}", remedy)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _mode(path: str, found: os.stat_result) -> Result:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return Result("its mode", "fail", f"{mode:04o}: others may look into it", f"chmod 700 {path}")
    return Result("its mode", "ok", f"{mode:04o}")


def _trials(path: str) -> Iterator[Result]:
    """Locks, links and reservations, on this very file system."""
    try:
        place = tempfile.mkdtemp(prefix=".doctor-", dir=path)
    except OSError as error:
        yield Result("writing", "fail", f"{path}: {error.strerror}", "make room, or mount it writable")
        return
    trials: list[tuple[str, Callable[[str], None], str, Verdict]] = [
        ("flock", _try_flock, "a runner's life is proven by its lock: use a local file system", "fail"),
        ("hard links", _try_link, "an attempt is claimed by link(2): use a file system that has it", "fail"),
        (
            "posix_fallocate",
            _try_reserve,
            "space for endings cannot be reserved: keep the disk from filling",
            "warn",
        ),
    ]
    try:
        for name, trial, why, verdict in trials:
            yield attempt(name, lambda trial=trial: trial(place), why, otherwise=verdict)  # type: ignore[misc]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _try_flock(place: str) -> None:
    first = os.open(f"{place}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    second = os.open(f"{place}/lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        raise ValueError("a held lock does not keep others out")
    finally:
        os.close(first)
        os.close(second)


def _try_link(place: str) -> None:
    with open(f"{place}/a", "w", encoding="ascii"):
        pass
    os.link(f"{place}/a", f"{place}/b")


def _try_reserve(place: str) -> None:
    fd = os.open(f"{place}/reserve", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, 16_384)
    finally:
        os.close(fd)


def _token(path: str) -> Iterator[Result]:
    try:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
    except FileNotFoundError:
        yield Result("token", "info", "none yet; the daemon makes one at its first start (unless auth is none)")
        return
    if mode & 0o077:
        remedy = f"chmod 600 {path}; if others were on this machine, remove it to have a new one made"
        yield Result("token", "fail", f"{mode:04o}: others may read {path}", remedy)
    else:
        yield Result("token", "ok", f"{mode:04o}")


def _file_system(path: str) -> Result:
    kind = file_system(os.path.realpath(path), _mounts())
    if kind.startswith(_NETWORK):
        remedy = "locks of a network file system outlive or forget their holders: use a local disk"
        return Result("file system", "warn", f"{kind}, over the network", remedy)
    if kind in ("tmpfs", "ramfs"):
        return Result("file system", "warn", f"{kind}: a reboot forgets all tasks", "use a disk")
    return Result("file system", "ok", kind)


def _mounts() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def file_system(path: str, mountinfo: str) -> str:
    """The type of the file system that a path lies on, by the text of /proc/self/mountinfo."""
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split()
        if len(fields) < 5 or not tail:
            continue
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), tail.split()[0]
    return kind


def _room(path: str) -> Iterator[Result]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    verdict: Verdict = "fail" if free < _NO_SPACE else "warn" if free < _LITTLE_SPACE else "ok"
    remedy = None if verdict == "ok" else "make room, or remove finished tasks (`task-runner remove`)"
    yield Result("free space", verdict, size(free), remedy)
    if found.f_files:  # some file systems do not count them
        few = found.f_favail < _FEW_INODES
        remedy = "remove finished tasks: each takes about five inodes" if few else None
        yield Result("free inodes", "warn" if few else "ok", str(found.f_favail), remedy)

"""What a process puts around itself between fork and exec: its cgroups, limits, and the user it runs as.

Rule 1: a wall that cannot be put up is a StartFailed. Nothing ever runs with fewer than were promised.
Rule 2: whoever is inside has no way back. The user is changed last of all that needs privileges, and for good: all
        three ids, no capability kept or to be had, and no_new_privs, so that no set-user-ID program gives any.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from task_runner.errors import StartFailed
from task_runner.model.grant import GrantedAccount

_libc = ctypes.CDLL(None, use_errno=True)
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 23, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_IOPRIO_WHO_PROCESS, _IOPRIO_BEST_EFFORT = 1, 2 << 13
#: number of the call, by machine; glibc has no function for it
_IOPRIO_SET = {
    "x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "i686": 289, "armv7l": 314, "armv8l": 314,
    "ppc64le": 273, "ppc64": 273, "s390x": 282,
}.get(os.uname().machine)  # fmt: skip
#: the same; add_key and request_key are the two before it
KEYCTL = {
    "x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "i686": 288, "armv7l": 311, "armv8l": 311,
    "ppc64le": 271, "ppc64": 271, "s390x": 280,
}.get(os.uname().machine)  # fmt: skip
_KEYCTL_JOIN_SESSION_KEYRING = 1

#: where nothing else is asked for
USUAL_UMASK = 0o022


_NAMES = {
    resource.RLIMIT_NOFILE: "openFiles",
    resource.RLIMIT_CORE: "coreMb",
    resource.RLIMIT_FSIZE: "fileMb",
    resource.RLIMIT_DATA: "memoryMb",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Walls:
    """Entered by the action's first process; all it starts is inside."""

    #: files named cgroup.procs, to write oneself into
    join: tuple[str, ...] = ()
    #: the same, to be back where the runner lives; empty: the runner must not go inside, not even to start a process
    home: tuple[str, ...] = ()
    #: resource (resource.RLIMIT_…) and its value, soft and hard
    rlimits: tuple[tuple[int, int], ...] = ()
    nice: int | None = None
    #: level of the best-effort class, 0 (first) to 7 (last)
    io_level: int | None = None
    #: none: the daemon's own
    account: GrantedAccount | None = None
    umask: int = USUAL_UMASK

    @property
    def plain(self) -> bool:
        """Whether a process can be born inside, and need not put anything around itself."""
        own = self.rlimits or self.nice is not None or self.io_level is not None or self.account is not None
        return not own and (not self.join or bool(self.home))


def can_set_io_level() -> bool:
    """Whether this machine has I/O priorities."""
    return _IOPRIO_SET is not None


def forbid_new_privileges() -> None:
    """From now on no program gives this process, or what it starts, more than it has. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def born_inside(walls: Walls, start: Callable[[], int]) -> int:
    """Start a process that is born in the cgroups: we go in, and come back. Returns its pid. Raises StartFailed."""
    try:
        for path in walls.join:
            _join(path)
        pid = start()
    except BaseException:
        _go_home(walls)
        raise
    try:
        _go_home(walls)
    except StartFailed:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return pid


def _go_home(walls: Walls) -> None:
    for path in walls.home:
        _join(path)


def enter(walls: Walls) -> None:
    """Go inside, for good; in the process that is to be there. Raises StartFailed, which says what could not be done.

    The limit of memory is left for `close_behind`: it is to meet the command and not its birth.
    """
    for path in walls.join:
        _join(path)
    for number, value in walls.rlimits:
        if number != resource.RLIMIT_DATA:
            _set_limit(number, value)
    if walls.nice is not None:
        with _telling(f"nice {walls.nice}"):
            os.setpriority(os.PRIO_PROCESS, 0, walls.nice)
    if walls.io_level is not None:
        with _telling(f"I/O priority {walls.io_level}"):
            _set_io_level(walls.io_level)
    os.umask(walls.umask)
    if walls.account is not None:
        _become(walls.account)
    with _telling("no_new_privs"):
        forbid_new_privileges()


def close_behind(walls: Walls) -> None:
    """The last of it, when nothing remains to be done but what is to be inside. Raises StartFailed."""
    for number, value in walls.rlimits:
        if number == resource.RLIMIT_DATA:
            _set_limit(number, value)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartFailed(f"{what}: {reason}") from None


def _join(path: str) -> None:
    with _telling(path):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def _set_limit(number: int, value: int) -> None:
    with _telling(_NAMES[number]):
        resource.setrlimit(number, (value, value))


def _set_io_level(level: int) -> None:
    if _IOPRIO_SET is None:
        raise OSError(0, f"not known for {os.uname().machine}")
    number = ctypes.c_long(_IOPRIO_SET)
    _checked(_libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_BEST_EFFORT | level))


# -- another user


def _become(account: GrantedAccount) -> None:
    wanted = (account.uid,) * 3, (account.gid,) * 3, set(account.groups)
    if _identity() == wanted:
        return
    with _telling(f"user {account.name}"):
        forget_keys()
        give_pipes(account.uid, account.gid)
        if account.uid != 0:
            keep_within(0)
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        if account.uid != 0:
            drop_capabilities()
    if _identity() != wanted:
        raise StartFailed(f"user {account.name}: the system has not changed to it")


def _identity() -> tuple[tuple[int, int, int], tuple[int, int, int], set[int]]:
    return os.getresuid(), os.getresgid(), set(os.getgroups())


def give_pipes(uid: int, gid: int) -> None:
    """Standard streams that are pipes become the user's: else /dev/stdin, /dev/stdout and so on could not be opened."""
    for fd in (0, 1, 2):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)


def forget_keys() -> None:
    """Have a session keyring of one's own: a process possesses the keys in the one it inherits, whoever it runs as.
    Raises OSError."""
    if KEYCTL is None or _libc.syscall(ctypes.c_long(KEYCTL), _KEYCTL_JOIN_SESSION_KEYRING, None) >= 0:
        return
    number = ctypes.get_errno()
    forbidden = number in (errno.ENOSYS, errno.EPERM)  # to what is inside as well
    # a user who is not root may have some hundred; what runs as the daemon's could read its keys without a sandbox
    used_up = number == errno.EDQUOT and os.geteuid() != 0
    if not forbidden and not used_up:
        raise OSError(number, f"session keyring: {os.strerror(number)}")


def keep_within(capabilities: int) -> None:
    """No program that is started gets any but these capabilities: one bit for each. Raises OSError."""
    number = 0
    while (has := _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        if has and not capabilities >> number & 1:
            _prctl(_PR_CAPBSET_DROP, number)
        number += 1


def drop_capabilities(kept: int = 0) -> None:
    """All but these, one bit for each; those to be inherited too, which a change of user leaves. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    has = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the lower halves, then the upper
    _checked(_libc.capget(header, has))
    low, high = has[1] & kept & 0xFFFFFFFF, has[4] & kept >> 32
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

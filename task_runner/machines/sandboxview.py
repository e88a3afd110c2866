"""What a command in a sandbox sees, as arguments for bubblewrap. Nothing here starts anything.

bubblewrap is told paths, and what they lead to may be exchanged by who can write there. So what was looked at is kept
in mind, and compared with what is inside before anything runs there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from task_runner.errors import StartFailed
from task_runner.model.walls import Mount

#: of this machine, as far as it is there; all of it read-only
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store")
#: directories of its own, where a home would hide what belongs there
_OWN = ("/proc", "/dev", "/tmp")  # noqa: S108


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is to be seen, by paths of this machine."""

    #: read, written, and at its own path
    work: str
    #: what the task has beside that: secrets, the FIFO for progress
    own: Sequence[Mount] = ()
    #: never seen, whatever contains it: the control files of all tasks
    hidden: Sequence[str] = ()
    mounts: Sequence[Mount] = ()
    network: bool = False
    #: an empty directory of its own
    home: str | None = None
    #: bubblewrap makes a user namespace: its user has no privileges here
    rootless: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A mount that was looked at."""

    index: int
    real: str
    target: str
    read_only: bool
    about: os.stat_result


def look(view: View) -> list[Shown]:
    """What the mounts are, in order. Raises StartFailed, where one cannot be."""
    return [_look(index, mount, view) for index, mount in enumerate(view.mounts)]


def _look(index: int, mount: Mount, view: View) -> Shown:
    where = f"sandbox.mounts.{index}.source {mount.source}"
    try:
        fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise StartFailed(f"{where}: {error.strerror}") from None
    try:
        real, about = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd)
    finally:
        os.close(fd)
    if _below(real, view.hidden) and not _below(real, [view.work]):
        raise StartFailed(f"{where}: lies in the state directory, which no task sees")
    target = "/" + os.path.normpath(mount.target or mount.source).strip("/")
    if target == "/":
        raise StartFailed(f"sandbox.mounts.{index}.target: cannot be the root directory")
    if _below(view.work, [target]) and real != target:
        raise StartFailed(f"sandbox.mounts.{index}.target: the working directory lies in {target}")
    return Shown(index=index, real=real, target=target, read_only=mount.read_only, about=about)


def exchanged(mounts: Sequence[Shown], inside: Callable[[str], os.stat_result]) -> Shown | None:
    """A mount that is not what it was when it was looked at; ``inside``: what a path is there. Raises OSError."""
    last = {each.target: each for each in mounts}.values()
    return next((each for each in last if not os.path.samestat(each.about, inside(each.target))), None)


def arguments(view: View, mounts: Sequence[Shown]) -> list[str]:
    """What bubblewrap is called with, but for its own name."""
    words = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--cap-drop", "ALL", *(["--unshare-user"] if view.rootless else [])]
    words += [] if view.network else ["--unshare-net"]
    shown: list[tuple[str, str]] = []
    for path in SYSTEM:
        words += _system(path, shown)
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run"]  # noqa: S108
    words += ["--dir", "/var", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108
    if view.network:
        words += _resolver(shown)
    if view.home is not None and not _below(view.home, (*SYSTEM, *_OWN)) and view.home != "/":
        words += ["--tmpfs", view.home]
    for mount in mounts:
        shown.append((mount.real, mount.target))
        words += ["--ro-bind" if mount.read_only else "--bind", mount.real, mount.target]
    words += _masks(view.hidden, shown)
    words += ["--bind", view.work, view.work]
    for each in view.own:
        words += ["--ro-bind" if each.read_only else "--bind", each.source, each.target or each.source]
    return [*words, "--remount-ro", "/"]


def _system(path: str, shown: list[tuple[str, str]]) -> list[str]:
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    if not os.path.isdir(path):
        return []
    shown.append((path, path))
    return ["--ro-bind", path, path]


def _resolver(shown: list[tuple[str, str]]) -> list[str]:
    """Where /etc/resolv.conf is a link to a file that would not be seen."""
    real = os.path.realpath("/etc/resolv.conf")
    if _below(real, [source for source, _target in shown]) or not os.path.isfile(real):
        return []
    return ["--ro-bind", real, real]


def _masks(hidden: Sequence[str], shown: list[tuple[str, str]]) -> list[str]:
    """An empty directory over each that is hidden, wherever something shown contains it."""
    words: list[str] = []
    for secret in hidden:
        for source, target in shown:
            if _below(secret, [source]):
                words += ["--tmpfs", os.path.normpath(f"{target}/{os.path.relpath(secret, source)}")]
    return words


def _below(path: str, directories: Sequence[str]) -> bool:
    return any(path == each or path.startswith(each.rstrip("/") + "/") for each in directories)

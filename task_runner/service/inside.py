"""Commands in sandboxes and in other containers: what is refused when a task is submitted.

Whether a sandbox can be made is found out by making one, once for the daemon's user and once for any other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from task_runner.errors import FieldError
from task_runner.kernel.cgroupfiles import look
from task_runner.model.codec import from_json
from task_runner.model.machines import ProcessParameters
from task_runner.model.spec import Spec
from task_runner.model.walls import Mount, Namespace, Sidecar
from task_runner.service.settings import Settings

Fault = tuple[str, str]

#: seconds for which it is believed that no sandbox can be made
BELIEVED = 10.0
#: seconds that a trial may take
_PATIENCE = 30.0
#: whom the trial for others than root is made as: a number that is nobody's
_SOMEBODY = "65534"
#: what it takes to join another process: CAP_SETGID, SETUID, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN
_JOINING = 1 << 6 | 1 << 7 | 1 << 18 | 1 << 19 | 1 << 21


def faults(wanted: ProcessParameters) -> Iterator[Fault]:
    """What is wrong with the two as they stand, on any server."""
    if wanted.sandbox is not None:
        for index, mount in enumerate(wanted.sandbox.mounts):
            if os.path.normpath(mount.target or mount.source).strip("/") == "":
                yield f"sandbox.mounts.{index}.target", "cannot be the root directory"
    if wanted.sidecar is None:
        return
    if wanted.sandbox is not None:
        yield "sidecar", 'cannot stand beside "sandbox": a command runs in one of the two'
    given = [name for name in ("container", "pid", "mark") if getattr(wanted.sidecar, name) is not None]
    if len(given) != 1:
        yield "sidecar", 'give exactly one of "container", "pid" and "mark"'
    if wanted.sidecar.engine is not None and "container" not in given:
        yield "sidecar.engine", 'is of use for a "container" alone'
    seen: set[Namespace] = set()
    for index, namespace in enumerate(wanted.sidecar.namespaces):
        if namespace in seen:
            yield f"sidecar.namespaces.{index}", f'"{namespace.value}" stands there twice'
        seen.add(namespace)


class Inside:
    """What this server refuses. Any thread may ask."""

    def __init__(self, settings: Settings, why_no_engine: Callable[[str | None], str | None]) -> None:
        self._settings = settings
        #: by each of its names
        self._states = {os.path.realpath(settings.state_dir), os.path.abspath(settings.state_dir)}
        self._why_no_engine = why_no_engine
        self._lock = threading.Lock()
        #: by whether it is made for another user than the daemon's: why it cannot be made, and when that was found
        self._tried: dict[bool, tuple[str | None, float]] = {}

    def check(self, spec: Spec, _token: str = "") -> Iterator[FieldError]:
        """What a spec wants of them and cannot have. May take as long as a trial does."""
        for where, action in spec.every_action():
            if not action.wrapped:
                continue
            wanted = from_json(ProcessParameters, action.parameters)
            found = self._sandbox(wanted, spec) if wanted.sidecar is None else self._sidecar(wanted.sidecar, spec)
            yield from (FieldError(f"{where}.parameters.{field}", why) for field, why in found)

    # -- sandboxes

    def _sandbox(self, wanted: ProcessParameters, spec: Spec) -> Iterator[Fault]:
        assert wanted.sandbox is not None
        for index, mount in enumerate(wanted.sandbox.mounts):
            yield from ((f"sandbox.mounts.{index}.{field}", why) for field, why in self._mount(mount))
        somebody_else = os.geteuid() == 0 and (spec.user or self._settings.default_user) not in (None, "root", "0")
        if (why := self.why_no_sandbox(for_another=somebody_else)) is not None:
            yield "sandbox", why

    def _mount(self, mount: Mount) -> Iterator[Fault]:
        target = "/" + os.path.normpath(mount.target or mount.source).strip("/")
        try:
            path = os.path.realpath(mount.source)
        except OSError:
            path = target  # it is changing just now; the start looks again
        for state in self._states:
            if _below(path, state):
                yield "source", "lies in the state directory, which no task sees"
            elif _below(target, state) or (_below(state, target) and path != target):
                yield "target", f"the working directories of tasks lie in {state}, and would be made there"
            else:
                continue
            return

    def why_no_sandbox(self, *, for_another: bool = False) -> str | None:
        """Why none can be made here; None: one can. ``for_another``: for another user than the daemon's, which is
        root."""
        with self._lock:
            why, at = self._tried.get(for_another, ("", 0.0))
            if why is not None and (not at or time.monotonic() - at > BELIEVED):
                why = _try(for_another)
                self._tried[for_another] = why, time.monotonic()
            return why

    # -- sidecars

    def _sidecar(self, wanted: Sidecar, spec: Spec) -> Iterator[Fault]:
        if (why := self.why_no_sidecar()) is not None:
            yield "sidecar", why
        elif wanted.container is not None and (why := self._why_no_engine(wanted.engine)) is not None:
            yield "sidecar.engine" if wanted.engine is not None else "sidecar.container", why
        if spec.user is not None or spec.group is not None:
            yield "sidecar", 'cannot stand beside "user" and "group" of the task; say in "sidecar.user" whom it runs as'
        tasks_run_as = self._settings.default_user
        if Namespace.MOUNT not in wanted.namespaces and tasks_run_as not in (None, "root", "0"):
            why = f'without "mount" it would be root among the files of this machine, where tasks run as {tasks_run_as}'
            yield "sidecar.namespaces", why

    def why_no_sidecar(self) -> str | None:
        """Why there are none here; None: there are."""
        if not self._settings.sidecars:
            return "the server does not let tasks run inside other containers; its administrator can (sidecars = true)"
        if os.geteuid() != 0 or _capabilities() & _JOINING != _JOINING:
            return "the daemon cannot join other processes: it must run as root, with all of root's capabilities"
        return None


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _try(for_another: bool) -> str | None:
    """Make a sandbox, by another process; returns why that is not possible."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed here; install the package bubblewrap (it brings the program bwrap)"
    who = [_SOMEBODY, _SOMEBODY] if for_another else []
    command = [sys.executable, "-m", "task_runner.machines.sandboxtrial", *who]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=_PATIENCE, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a sandbox was tried and cannot be made: {error}"
    if tried.returncode == 0:
        return None
    told = " ".join(tried.stderr.decode(errors="replace").split())[-500:]
    return f"a sandbox was tried and cannot be made: {told}{_remedy()}"


def _remedy() -> str:
    """What of this machine's settings stands in the way."""
    for name, wanted in (
        ("kernel.unprivileged_userns_clone", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ):
        value = _sysctl(name)
        if value is not None and value != wanted:
            return f"; user namespaces are forbidden here: `sysctl {name}={wanted}` allows them"
    if _sysctl("user.max_user_namespaces") == "0":
        return "; user namespaces are forbidden here: `sysctl user.max_user_namespaces=10000` allows them"
    return ""


def _sysctl(name: str) -> str | None:
    value = look(f"/proc/sys/{name.replace('.', '/')}")
    return value and value.strip()


def _capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)

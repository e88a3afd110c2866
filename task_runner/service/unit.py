"""The systemd unit that the daemon runs in, and whether tasks survive what systemd does to it."""

from __future__ import annotations

import logging
import re
import subprocess

from task_runner.kernel.cgroupfiles import read

log = logging.getLogger(__name__)

_SYSTEMCTL_SECONDS = 5.0


def warn_of_kill_mode() -> None:
    """Log a warning if this unit's next stop would kill every task. Says nothing where that cannot be known."""
    unit, own = unit_of(read("/proc/self/cgroup"))
    mode = _kill_mode(unit, own) if unit else None
    if mode not in (None, "process", "none"):
        log.warning(
            "%s has KillMode=%s: when it is stopped or restarted, systemd kills every task; set KillMode=process",
            unit,
            mode,
            extra={"action": "warn_of_kill_mode"},
        )


def unit_of(cgroups: str) -> tuple[str | None, bool]:
    """The service that /proc/PID/cgroup names, and whether it is one of a user's own manager."""
    for line in cgroups.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            *managers, unit = [None, *re.findall(r"[^/]+\.service(?=/|$)", path)]
            if unit is not None and not unit.startswith("user@"):
                return unit, any(manager and manager.startswith("user@") for manager in managers)
    return None, False


def _kill_mode(unit: str, own: bool) -> str | None:
    command = ["systemctl", *(["--user"] if own else []), "show", "--property=KillMode", "--value", "--", unit]
    try:
        shown = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYSTEMCTL_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip() or None if shown.returncode == 0 else None

"""Which variables of the daemon's environment a task's commands get beside the basic ones."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence

from task_runner.lib.basics import is_basic

log = logging.getLogger(__name__)

#: ours: settings, tokens, secrets, and what says whose process it is
_OURS = "TASK_RUNNER_"
#: systemd's words to the daemon: a task that had them could speak in its name
_SERVICE = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID"}
)


def chosen(patterns: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Those whose names match a pattern (``*`` stands for any characters; capitals count). Never the program's own,
    however they are spelt, nor the basic ones, which may be others for another user, nor what is not UTF-8."""
    found = {
        name: value
        for name, value in environ.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        and not name.upper().startswith(_OURS)
        and name not in _SERVICE
        and not is_basic(name)
    }
    for name in [name for name, value in found.items() if not _is_text(name + value)]:
        log.warning("pass_environment: %a is not UTF-8, and is not passed", name)
        del found[name]
    return found


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

"""How a runner takes up what a dead one had in hand (lib/succession.py tells what that is)."""

from __future__ import annotations

import os
import time

from task_runner.errors import Damaged
from task_runner.lib import lock, statusfile, succession
from task_runner.lib.clock import Clock, boot_id
from task_runner.lib.stop import read_order
from task_runner.lib.succession import Legacy, Now
from task_runner.lib.supervision import Supervision
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Spec


def inherit(directory: AttemptDirectory, clock: Clock) -> tuple[lock.Inheritance, Legacy]:
    """Hold the dead runner's lock, and read where it was. Raises AlreadyClaimed where there is nothing to take up:
    looked at under the lock, for an earlier successor may have come to the end."""
    inheritance = lock.Inheritance(directory)
    try:
        status = statusfile.read(directory)
        action = succession.under_way(status)
    except (Damaged, OSError):
        status = action = None
    if status is None or action is None:
        inheritance.close()
        raise lock.AlreadyClaimed(directory.path)
    now = Now(
        time=clock.time(),
        monotonic=clock.monotonic(),
        since_boot=time.clock_gettime(time.CLOCK_BOOTTIME),
        boot_id=boot_id(),
        ticks_a_second=os.sysconf("SC_CLK_TCK"),
    )
    return inheritance, succession.inherit(status, action, now)


def go_on(supervision: Supervision, spec: Spec, legacy: Legacy) -> None:
    """With the dead runner's limits, and with what was to end the task."""
    if not legacy.action.cleanup:
        seconds = spec.timeout_seconds
        supervision.limit(None if seconds is None else seconds - legacy.spent)
        return
    if legacy.stopping is not None:
        supervision.order, supervision.interrupted = supervision.order_for(legacy.stopping), True
    supervision.begin_cleanup(spec.cleanup_seconds - legacy.spent)


def stop_again(supervision: Supervision, spec: Spec, directory: AttemptDirectory, legacy: Legacy) -> None:
    """End the task as the dead runner had been about to."""
    if legacy.stopping is None or supervision.cleaning:
        return
    asked = legacy.stopping == "stop"
    supervision.request(read_order(directory, spec) if asked else supervision.order_for(legacy.stopping))

"""The walls of a task, from what it asks for, what the daemon grants, and what its cgroup can do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from task_runner.errors import Damaged
from task_runner.lib import limits, statusfile
from task_runner.lib.group import Group
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.machines.walls import USUAL_UMASK, Walls, can_set_io_level
from task_runner.model.grant import Grant, GrantedAccount
from task_runner.model.spec import Spec
from task_runner.model.status import LimitNote


def build(
    spec: Spec, grant: Grant | None, group: Group | None, why: str | None = None
) -> tuple[Walls | None, list[LimitNote]]:
    """The walls, None where there are none to be put up; and what became of each limit that was asked for.

    The limits of the group are set by this. ``why``: where there is none, the reason.
    """
    account = grant.account if grant is not None else None
    umask = int(spec.umask, 8)
    join, home = (group.join, group.home) if group is not None else ((), ())
    if spec.limits is None or not limits.apply_to(spec):
        plain = account is None and not join and umask == USUAL_UMASK
        return None if plain else Walls(join=join, home=home, account=account, umask=umask), []
    by_group = group.limit(spec.limits) if group is not None else []
    freedom = replace(limits.look(), io_levels=can_set_io_level())
    plan = limits.plan(spec.limits, by_group, freedom, why)
    walls = Walls(
        join=group.join if group is not None else (),  # not before: a limit may have made another group
        home=group.home if group is not None else (),
        rlimits=plan.rlimits,
        nice=plan.nice,
        io_level=plan.io_level,
        account=account,
        umask=umask,
    )
    return walls, list(plan.notes)


def obstacle(spec: Spec, grant: Grant | None, notes: list[LimitNote]) -> str | None:
    """Why nothing of the task may run: it would have fewer walls than it asks for."""
    if grant is not None and grant.fault is not None:
        return grant.fault
    if (spec.user or spec.group) and (grant is None or grant.account is None):
        return f"user: nobody has granted the task to run as {spec.user or spec.group}"
    return limits.refusal(spec.limits, notes) if spec.limits is not None else None


def inheritance(directory: AttemptDirectory, user_id: int | None) -> str | None:
    """Why nothing of this attempt may run: another user than the daemon's has had its working directory, and could have
    left anything there for whom it runs as."""
    ours = os.geteuid()
    now = ours if user_id is None else user_id
    for attempt in range(1, directory.attempt):
        try:
            before = statusfile.read(AttemptDirectory(directory.task, attempt))
        except (OSError, Damaged):
            continue
        if before is not None and before.user_id not in (None, ours, now):
            return (
                f"user: attempt {attempt} ran as user {before.user_id}, who may have left anything in the working "
                f"directory, and this one would run as user {now}: submit the task anew"
            )
    return None


def environment(basics: Mapping[str, str], account: GrantedAccount) -> dict[str, str]:
    """The basic variables of a command that runs as somebody else than the daemon."""
    theirs = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}
    return {name: value for name, value in basics.items() if name != "TMPDIR"} | theirs


def needs_filter(spec: Spec, grant: Grant | None, own_uid: int) -> bool:
    """Whether the output must not be opened by the task's processes: they are another user's, who could cut it off; or
    the log's size would count as that of a file they write."""
    foreign = grant is not None and grant.account is not None and grant.account.uid != own_uid
    beside = any(action.beside for action in spec.all_actions)
    return foreign or beside or (spec.limits is not None and spec.limits.file_mb is not None)

"""Secrets on their way to a task's actions: by environment, by a file, or both.

The files are the one place where a secret touches the disk: 0600 and the task's user's, removed before the last status
is written; if the runner dies first, the daemon removes them with the rest of what the task left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from task_runner.lib.taskdir import PASSABLE, AttemptDirectory, remove_tree, write_all
from task_runner.model.grant import GrantedAccount
from task_runner.model.terms import SecretUse


def missing(uses: Sequence[SecretUse], values: Mapping[str, str]) -> list[str]:
    """The names of secrets that are wanted and not there."""
    return sorted({use.name for use in uses if use.name not in values})


def provide(
    directory: AttemptDirectory,
    uses: Sequence[SecretUse],
    values: Mapping[str, str],
    account: GrantedAccount | None = None,
) -> dict[str, str]:
    """Write the files; returns the variables. What is not there is left out. Raises OSError.

    ``account``: who is to read them. The directory stays ours, so nobody else puts anything there.
    """
    variables: dict[str, str] = {}
    for use in uses:
        value = values.get(use.name)
        if value is None:
            continue
        if use.env is not None:
            variables[use.env] = value
        if use.file_env is not None:
            variables[use.file_env] = _write(directory.secrets, use.name, value, account)
    return variables


def _write(place: str, name: str, value: str, account: GrantedAccount | None) -> str:
    try:
        os.mkdir(place, 0o700)
    except FileExistsError:
        pass
    if account is not None:
        os.chmod(place, PASSABLE)
    path = f"{place}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, value.encode("utf-8", "surrogateescape"))
        if account is not None:
            os.fchown(fd, account.uid, account.gid)
    finally:
        os.close(fd)
    return path


def remove(directory: AttemptDirectory) -> None:
    """Remove the files; harmless where there are none."""
    if os.path.lexists(directory.secrets):
        remove_tree(directory.secrets)


def remove_all(task: str) -> None:
    """Remove the files of every attempt of a task, by its directory."""
    remove(AttemptDirectory(task, 1))
    try:
        attempts = os.listdir(f"{task}/attempts")
    except OSError:
        return
    for each in attempts:
        if each.isdigit():
            remove(AttemptDirectory(task, int(each)))

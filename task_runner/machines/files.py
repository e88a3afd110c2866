"""Putting a task's files into its working directory, before its first action."""

from __future__ import annotations

import base64
import binascii
import grp
import pwd
import shutil

from task_runner.errors import ActionFailed
from task_runner.machines import fetch, web, worktree
from task_runner.machines.base import Context
from task_runner.machines.conduct import Meter, conduct, size
from task_runner.machines.download import secret
from task_runner.machines.worktree import NewFile
from task_runner.model import urls
from task_runner.model.terms import Fetch, FileIn

#: how often a fetch that broke off is taken up again
_RESUMES = 5


def run(parameters: list[FileIn], context: Context) -> int:
    """Place the files in order; returns the exit code. The first that cannot be placed ends it."""
    return conduct("files", lambda: _place_all(parameters, context))


def _place_all(files: list[FileIn], context: Context) -> None:
    meter = Meter(context)
    root = worktree.open_work(context.work)
    for index, file in enumerate(files):
        meter.at(index / len(files), f"file {index + 1} of {len(files)}: {file.path}")
        try:
            _place(root, file, context, meter)
        except ActionFailed as error:
            raise ActionFailed(f"{file.path}: {error}") from None
        except OSError as error:
            raise ActionFailed(f"{file.path}: {error.strerror or error}") from None


def _place(root: int, file: FileIn, context: Context, meter: Meter) -> None:
    owner = _owner(file.owner)
    with NewFile(root, file.path) as new:
        if file.text is not None:
            new.write(file.text.encode())
        elif file.base64 is not None:
            new.write(_decoded(file.base64))
        elif file.host_path is not None:
            with worktree.open_host_file(file.host_path, context.host_files) as source:
                shutil.copyfileobj(source, new, 1 << 20)
        elif file.fetch is not None:
            fetch.fetch(
                _order(file.fetch, context), new, lambda done, _total: meter.at(None, f"{file.path}: {size(done)}")
            )
        if owner is not None:
            try:
                new.own(*owner)
            except PermissionError:
                raise ActionFailed(f"owner {file.owner}: only root can give files away") from None
        new.commit(int(file.mode, 8))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ActionFailed(f"is not base64: {error}") from None


def _order(wanted: Fetch, context: Context) -> fetch.Order:
    try:
        urls.split(wanted.url, urls.HTTP)
    except ValueError as error:
        raise ActionFailed(f"{urls.shown(wanted.url)}: {error}") from None
    headers = dict(wanted.headers)
    if wanted.username is not None:
        password = "" if wanted.password_secret is None else secret(context, wanted.password_secret)
        headers["Authorization"] = web.basic(wanted.username, password)
    elif wanted.bearer_secret is not None:
        headers["Authorization"] = f"Bearer {secret(context, wanted.bearer_secret)}"
    headers.update({header: secret(context, name) for header, name in wanted.header_secrets.items()})
    return fetch.Order(
        url=wanted.url,
        method=wanted.method,
        headers=headers,
        body=None if wanted.body is None else wanted.body.encode(),
        statuses=frozenset(wanted.statuses) or fetch.GOOD,
        insecure=wanted.insecure,
        timeout=wanted.timeout_seconds,
        connect=wanted.connect_seconds,
        resumes=_RESUMES,
    )


def _owner(owner: str | None) -> tuple[int, int] | None:
    """The numbers of user and group; -1 for a group that is not named. Raises ActionFailed."""
    if owner is None:
        return None
    user, _, group = owner.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ActionFailed(f"owner {owner}: {error.args[0]}") from None
    if max(uid, gid) >= 2**32 - 1:
        raise ActionFailed(f"owner {owner}: there is no such number")
    return uid, gid

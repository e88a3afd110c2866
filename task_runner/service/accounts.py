"""Whom tasks may run as: users of this machine, by the server's policy and the token that submits.

Rule 1: looked up and judged twice: when a task is submitted, to refuse it, and when an attempt of it starts, to grant
        it. In between an account may go, get another number or other groups, and the policy may change.
Rule 2: root is a number and not a name. Only `allow_root` lets a task name it, however it is spelt.
Rule 3: whom a task would run as anyway it may name.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from task_runner.errors import FieldError, InvalidRequest, Refused
from task_runner.model.grant import GrantedAccount
from task_runner.model.spec import Spec
from task_runner.service.settings import Settings

#: the last number that means "nobody" to no call
_LAST = 2**32 - 2
_SHELL = "/bin/sh"
_RANGE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")


class _Unusable(Exception):
    """It cannot be: in words."""


@dataclass(frozen=True, slots=True)
class _User:
    """A user as the machine knows it."""

    account: GrantedAccount
    #: it has an entry, and is not just a number
    known: bool


def switches(settings: Settings) -> bool:
    """Whether tasks may run as other users than the daemon's own."""
    return os.geteuid() == 0 and bool(settings.default_user or settings.task_users)


class Accounts:
    """The policy of one server. Raises Refused where it cannot be."""

    def __init__(self, settings: Settings) -> None:
        self._default = settings.default_user
        self._allowed: Mapping[str, Sequence[str]] = settings.task_users
        self._allow_root = settings.allow_root
        self._root = os.geteuid() == 0
        try:
            if self._default is not None:
                self._usable(_user(self._default))
        except _Unusable as error:
            raise Refused(f"default_user: {error}") from None
        for token, entries in self._allowed.items():
            for entry in entries:
                if (fault := _fault_of(entry)) is not None:
                    raise Refused(f"task_users: {token}: {entry!r} {fault}")

    def check(self, spec: Spec, token: str) -> list[FieldError]:
        """What is wrong with the user and the group that a spec names, for who submits with this token."""
        try:
            account = self._account(spec, token)
        except InvalidRequest as error:
            return error.fields
        return [] if account is None or account.uid == os.geteuid() else list(_owners(spec, account))

    def grant(self, spec: Spec, token: str) -> GrantedAccount | None:
        """Whom the task's actions run as now; None: as the daemon. Raises InvalidRequest."""
        return self._account(spec, token)

    def _account(self, spec: Spec, token: str) -> GrantedAccount | None:
        if spec.user is None and spec.group is None and self._default is None:
            return None
        try:
            user = self._user_of(spec, token)
        except _Unusable as error:
            raise InvalidRequest.at("user", str(error)) from None
        if spec.group is None:
            return user.account
        try:
            return self._with_group(user.account, spec.group)
        except _Unusable as error:
            raise InvalidRequest.at("group", str(error)) from None

    def _user_of(self, spec: Spec, token: str) -> _User:
        anyway = self._usable(_user(self._default if self._default is not None else str(os.geteuid())))
        if spec.user is None:
            return anyway
        user = self._usable(_user(spec.user))
        if user.account.uid == 0 and not self._allow_root:
            raise _Unusable("the server lets no task name root (allow_root)")
        entries = [*self._allowed.get(token, ()), *self._allowed.get("*", ())]
        if user.account != anyway.account and not any(_covers(entry, user) for entry in entries):
            raise _Unusable(
                f"the server does not let tasks of the token {token!r} run as {spec.user!r}; it allows (task_users): "
                f"{', '.join(entries) or 'none'}"
            )
        return user

    def _usable(self, user: _User) -> _User:
        """The same, if the daemon can become that."""
        if self._root:
            return user
        if user.account.uid != os.geteuid():
            raise _Unusable(
                f"the daemon runs as {_user(str(os.geteuid())).account.name}, and only root could start a task as "
                f"{user.account.name}"
            )
        return replace(user, account=replace(user.account, gid=os.getegid(), groups=os.getgroups()))

    def _with_group(self, account: GrantedAccount, name: str) -> GrantedAccount:
        gid = _gid(name)
        if gid == account.gid:
            return account
        if not self._root:
            raise _Unusable("the daemon does not run as root, and cannot change the group of a task")
        if gid not in account.groups and account.uid != 0:
            raise _Unusable(f"{account.name} is not a member of {name}")
        others = [each for each in account.groups if each not in (gid, account.gid)]
        return replace(account, gid=gid, groups=[gid, *others])


def _user(name: str) -> _User:
    """Raises _Unusable."""
    try:
        entry = pwd.getpwuid(_number(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if not name.isdecimal():
            raise _Unusable(f"there is no user {name!r} on this machine") from None
        return _User(_nameless(_number(name)), known=False)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    account = GrantedAccount(
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=[entry.pw_gid, *(each for each in groups if each != entry.pw_gid)],
        name=entry.pw_name,
        home=entry.pw_dir or "/",
        shell=entry.pw_shell or _SHELL,
    )
    return _User(account, known=True)


def _nameless(number: int) -> GrantedAccount:
    """Nobody has this number: its group is that of the same number, if that is nobody's either."""
    try:
        other = grp.getgrgid(number).gr_name
    except KeyError:
        return GrantedAccount(uid=number, gid=number, groups=[number], name=str(number), home="/", shell=_SHELL)
    raise _Unusable(f"there is no user {number} on this machine, and as a group that number is {other!r}")


def _number(text: str) -> int:
    number = int(text)
    if number > _LAST:
        raise _Unusable(f"there is no number {text}; the last is {_LAST}")
    return number


def _gid(name: str) -> int:
    if name.isdecimal():
        return _number(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise _Unusable(f"there is no group {name!r} on this machine") from None


# -- the policy's words


def _fault_of(entry: str) -> str | None:
    """What is wrong with an entry of `task_users`. That somebody is not there is not: an account may come later."""
    if match := _RANGE.fullmatch(entry):
        return None if int(match[1]) <= int(match[2]) <= _LAST else "is an empty range"
    if entry in ("", "@") or "/" in entry or any(each.isspace() for each in entry):
        return "is neither a name, a number, a range of numbers (2000-2999), @GROUP nor *"
    return None


def _covers(entry: str, user: _User) -> bool:
    """Whether an entry of `task_users` allows a user."""
    account = user.account
    if entry == "*":
        return user.known and account.uid != 0
    if entry.isdecimal():
        return int(entry) == account.uid
    if match := _RANGE.fullmatch(entry):
        return int(match[1]) <= account.uid <= int(match[2])
    if entry.startswith("@"):
        try:
            return user.known and _gid(entry[1:]) in account.groups
        except _Unusable:
            return False
    return user.known and entry == account.name


def _owners(spec: Spec, account: GrantedAccount) -> Iterable[FieldError]:
    """Files are placed by the task's user, who can give nothing away."""
    for index, file in enumerate(spec.files):
        if file.owner is None:
            continue
        name, _, group = file.owner.partition(":")
        try:
            theirs = _user(name).account.uid == account.uid and (not group or _gid(group) in account.groups)
        except _Unusable:
            theirs = False
        if not theirs:
            why = f"the task runs as {account.name}, whose its files are, and who can give none away"
            yield FieldError(f"files.{index}.owner", f"{why}: leave `owner` out, or `user`")

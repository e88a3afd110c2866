"""From what a task asks for to what an engine is told."""

from __future__ import annotations

import os
from dataclasses import replace

from task_runner.engines.base import LABEL_DAEMON, LABEL_START, LABEL_TASK, Order, name_of
from task_runner.errors import ActionFailed
from task_runner.machines import worktree
from task_runner.machines.base import Context
from task_runner.model import workpath
from task_runner.model.walls import CONTAINER_GIVEN, ContainerParameters, Device, Mount, WorkMount

#: the variable that holds the container's name
CONTAINER = "TASK_RUNNER_CONTAINER"


def labels_of(context: Context) -> dict[str, str]:
    """By which the container of this very start is found again."""
    return {LABEL_DAEMON: context.daemon, LABEL_TASK: context.task_id, LABEL_START: _start_of(context)}


def _start_of(context: Context) -> str:
    return f"{context.attempt}.{context.action_index}.{context.tries}"


def order_of(wanted: ContainerParameters, context: Context) -> Order:
    """What the engine is to make, but for the mounts that the task names (see `real`)."""
    env, mounts = _given(context)
    name = name_of(context.task_id, _start_of(context))  # known before there is a container
    if wanted.work_at is not None:
        mounts.insert(0, Mount(source=context.work, target=wanted.work_at))
    account = context.walls.account if context.walls is not None else None
    return Order(
        name=name,
        image=wanted.image,
        command=wanted.command,
        args=wanted.args,
        env={**env, CONTAINER: name, **wanted.env},
        user=wanted.user or (f"{account.uid}:{account.gid}" if account is not None else None),
        working_directory=wanted.working_directory or wanted.work_at,
        mounts=mounts,
        devices=[each if isinstance(each, Device) else Device(path=each) for each in wanted.devices],
        limits=wanted.limits or context.limits,
        network=wanted.network or context.containers.networks[0],
        labels=labels_of(context),
    )


def _given(context: Context) -> tuple[dict[str, str], list[Mount]]:
    """The variables that the task was given, and the files they name: those have another path inside."""
    env, mounts = dict(context.given), list[Mount]()
    if context.progress is not None and "TASK_RUNNER_PROGRESS" in env:
        env["TASK_RUNNER_PROGRESS"] = f"{CONTAINER_GIVEN}/progress"
        mounts.append(Mount(source=context.progress, target=f"{CONTAINER_GIVEN}/progress"))
    if (held := context.secret_files) is not None:
        for name, value in env.items():
            if value.startswith(f"{held}/"):
                env[name] = f"{CONTAINER_GIVEN}/secrets/{value[len(held) + 1 :]}"
        mounts.append(Mount(source=held, target=f"{CONTAINER_GIVEN}/secrets", read_only=True))
    return env, mounts


def real(order: Order, wanted: ContainerParameters, context: Context) -> Order:
    """The order with the mounts that were asked for as they really lie, links resolved, seen to be allowed there too.

    Raises ActionFailed. Who may rename directories below an allowed one can exchange one between this look and the
    engine's: the engine takes a path, and no descriptor.
    """
    policy = context.containers
    policy = replace(policy, mounts=tuple(map(_real_rule, policy.mounts)), state=_real_state(policy.state))
    found = [_of_work(mount, context.work) for mount in wanted.work_mounts]
    for mount in wanted.mounts:
        source = _resolved(mount.source, mount.source)
        if (why := policy.why_not_mount(replace(mount, source=source))) is not None:
            raise ActionFailed(f"mount {mount.source}: {why}")
        found.append(replace(mount, source=source, target=mount.target or mount.source))
    return replace(order, mounts=[*order.mounts, *found])


def _of_work(mount: WorkMount, work: str) -> Mount:
    """An earlier action may have put a link there, which leads wherever it wants."""
    if mount.make_directory:
        _make_directory(work, mount.path)
    source = _resolved(f"{work}/{mount.path}", mount.path)
    if not source.startswith(f"{os.path.realpath(work)}/"):
        raise ActionFailed(f"mount {mount.path}: it leads out of the working directory")
    return Mount(source=source, target=mount.target, read_only=mount.read_only)


def _make_directory(work: str, path: str) -> None:
    made = False

    def note() -> None:
        nonlocal made
        made = True

    root = worktree.open_work(work)
    try:
        directory = worktree.descend(root, workpath.parts(path), make=True, follow=False, made=note)
        try:
            if made:
                os.chmod(f"/proc/self/fd/{directory}", 0o777)  # noqa: S103  whoever the container runs as
        finally:
            os.close(directory)
    except OSError as error:
        raise ActionFailed(f"mount {path}: {error.strerror}") from None
    finally:
        os.close(root)


def _resolved(path: str, name: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise ActionFailed(f"mount {name}: {error.strerror}") from None


def _real_rule(rule: str) -> str:
    directory = rule.removesuffix(":ro")
    return os.path.realpath(directory) + rule[len(directory) :]


def _real_state(state: str | None) -> str | None:
    return None if state is None else os.path.realpath(state)

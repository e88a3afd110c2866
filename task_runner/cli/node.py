"""`task-runner node`, `drain`, `undrain`."""

from __future__ import annotations

import click

from task_runner.cli import exitcode, walls
from task_runner.cli.edge import PATIENCE, Session, pass_session
from task_runner.cli.output import clean, emit, json_option
from task_runner.cli.values import reading, some_duration
from task_runner.client import Node
from task_runner.client.records import Dialect

#: states of tasks that a drained daemon does not start
_WAITING = ("scheduled", "pending")


@click.command()
@json_option
@pass_session
def node(session: Session, as_json: bool) -> None:
    """Show the daemon in numbers."""
    with session.client() as client:
        found = client.node()
    if as_json:
        emit(found)
        return
    storage = found["storage"]
    lines = [
        ("daemon", f"{client.url}, version {found['version']}"),
        ("ready", "yes" if found["ready"] else "not yet: it is examining the tasks of its predecessor"),
        ("starts tasks", "no (drained)" if found["draining"] else "yes"),
        ("drained at", found["drainedAt"] or "-"),
        (
            "tasks",
            ", ".join(f"{count} {state}" for state, count in found["states"].items() if count) or "none",
        ),
        ("stalled", str(found["stalled"])),
        ("at once", "no limit" if found["maxRunning"] is None else f"at most {found['maxRunning']}"),
        ("resources", _resources(found)),
        ("storage", "ok" if storage["ok"] else clean(f"TROUBLE: {storage['error']}")),
    ]
    if dialects := found.get("dialects"):
        lines.append(("dialects", ", ".join(map(_dialect, dialects))))
    if found["storeSetAside"]:
        lines.append(("damaged store", clean(f"set aside as {found['storeSetAside']}; see `task-runner fsck`")))
    for name, value in [*lines, *walls.possible_lines(found)]:
        click.echo(f"{name:<14}{value}")


def _dialect(dialect: Dialect) -> str:
    return f"{dialect['name']} on {clean(dialect['address'])}" if dialect["address"] else dialect["name"]


def _resources(node: Node) -> str:
    """What is free of what there is, of each kind."""
    total, free = node["capacity"], node["free"]
    kinds = [("cpus", "CPUs"), ("memoryMb", "MiB"), ("gpus", "GPUs")]
    pairs = [(word, free[name], total[name]) for name, word in kinds if total[name]]
    pairs += [(f"of pool {name}", free["pools"][name], total["pools"][name]) for name in sorted(total["pools"])]
    return ", ".join(f"{left:g} of {all_:g} {word}" for word, left, all_ in pairs) + " free" if pairs else "not counted"


@click.command()
@click.option("--wait", "patient", is_flag=True, help="Return when no task runs any more.")
@click.option(
    "--timeout",
    callback=reading(some_duration),
    metavar="SECONDS",
    help="Wait so long at most, then end with exit code 124; also 10m, 2h. With --wait.",
)
@json_option
@pass_session
@click.pass_context
def drain(ctx: click.Context, session: Session, patient: bool, timeout: float | None, as_json: bool) -> None:
    """Start no more tasks, also after a restart of the daemon. Those that run go on; new ones are accepted and wait."""
    if timeout is not None and not patient:
        raise click.UsageError("--timeout needs --wait")
    with session.client(patience=PATIENCE if patient else 2.0) as client:
        found = client.drain()
        if patient:
            found = client.wait_empty(timeout)
    if as_json:
        emit(found)
    else:
        click.echo(f"drained: no task is started any more; {_active(found) or 'none'} still active")
    ctx.exit(exitcode.TIMED_OUT if patient and not found["empty"] else exitcode.OK)


@click.command()
@json_option
@pass_session
def undrain(session: Session, as_json: bool) -> None:
    """Start tasks again."""
    with session.client() as client:
        found = client.undrain()
    if as_json:
        emit(found)
    else:
        click.echo("tasks are started again")


def _active(found: Node) -> int:
    return sum(count for state, count in found["states"].items() if state not in _WAITING)

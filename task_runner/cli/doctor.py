"""`task-runner doctor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import click

from task_runner.cli import exitcode
from task_runner.cli.check import Result, Verdict
from task_runner.cli.check_daemon import check_daemon, check_units
from task_runner.cli.check_machine import check_cgroup, check_kernel, check_limits, check_python
from task_runner.cli.check_state import check_state
from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import clean, emit, json_option, paint
from task_runner.client.discovery import state_directory

_MARKS: dict[Verdict, tuple[str, str | None]] = {
    "ok": ("ok  ", "green"),
    "info": ("--  ", None),
    "warn": ("warn", "yellow"),
    "fail": ("FAIL", "red"),
}


@click.command()
@json_option
@pass_session
@click.pass_context
def doctor(ctx: click.Context, session: Session, as_json: bool) -> None:
    """Check this machine, the state directory and the daemon, and say what to do.

    Run it as the daemon's user. Exit code 1 if anything failed; warnings are not failures.
    """
    results = list(_examine(session))
    failed = any(result.verdict == "fail" for result in results)
    if as_json:
        emit({"ok": not failed, "checks": [dataclasses.asdict(result) for result in results]})
    else:
        _print(results)
    ctx.exit(exitcode.FAILED if failed else exitcode.OK)


def _examine(session: Session) -> Iterator[Result]:
    directory = session.state_dir or state_directory()
    address = session.address()
    yield from check_python()
    yield from check_kernel()
    yield from check_state(directory)
    with session.client(patience=0) as client:
        yield from check_daemon(client)
    yield from check_limits(address.pid)
    yield from check_units()
    yield from check_cgroup()


def _print(results: list[Result]) -> None:
    width = max(len(result.name) for result in results)
    for result in results:
        mark, colour = _MARKS[result.verdict]
        click.echo(f"{paint(mark, colour)}  {result.name:<{width}}  {clean(result.found)}")
    remedies = [result for result in results if result.remedy and result.verdict in ("warn", "fail")]
    if remedies:
        click.echo("\nWhat to do:")
    for result in remedies:
        click.echo(f"  {result.name}: {clean(result.remedy or '')}")

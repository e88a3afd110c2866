"""`task-runner fsck`."""

from __future__ import annotations

import dataclasses

import click

from task_runner.cli import exitcode
from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import clean, emit, json_option
from task_runner.client.discovery import state_directory


@click.command()
@click.option("--rebuild", is_flag=True, help="Take tasks that the store does not know from their directories.")
@click.option("--state-dir", metavar="DIR", help="The state directory (TASK_RUNNER_STATE_DIR).")
@json_option
@pass_session
@click.pass_context
def fsck(ctx: click.Context, session: Session, rebuild: bool, state_dir: str | None, as_json: bool) -> None:
    """Compare the store with the task directories. The daemon must not run.

    Exit code 1 if there are errors; notes are not errors.
    """
    from task_runner.service.fsck import check

    directory = state_dir or session.state_dir or state_directory()
    findings = check(directory, rebuild=rebuild)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        emit({"stateDir": directory, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        for finding in findings:
            subject = f"{finding.task_id} " if finding.task_id else ""
            click.echo(clean(f"{finding.severity}: {subject}{finding.message}"))
        click.echo(f"{directory}: {errors} errors, {len(findings) - errors} notes")
    ctx.exit(exitcode.FAILED if errors else exitcode.OK)

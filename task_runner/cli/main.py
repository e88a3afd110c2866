"""`task-runner`: the verbs for people. Exit codes stand in exitcode.py."""

from __future__ import annotations

import click

from task_runner import __version__
from task_runner.cli import control, doctor, fsck, node, run, serve, tasks
from task_runner.cli.edge import Group, Session
from task_runner.cli.exitcode import HELP


@click.group(cls=Group, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The daemon: http://HOST:PORT, https://HOST:PORT, unix:///PATH.")
@click.option("--state-dir", metavar="DIR", help="Its state directory (TASK_RUNNER_STATE_DIR).")
@click.version_option(__version__, prog_name="task-runner")
@click.pass_context
def cli(ctx: click.Context, url: str | None, state_dir: str | None) -> None:
    """Run tasks on this machine: each in a process, a directory and a log of its own."""
    ctx.obj = Session(url=url, state_dir=state_dir)


for _command in (
    run.run,
    tasks.submit,
    tasks.list_tasks,
    tasks.show,
    tasks.logs,
    control.wait,
    control.stop,
    control.pause,
    control.resume,
    control.send_signal,
    control.retry,
    control.remove,
    node.node,
    node.drain,
    node.undrain,
    serve.serve,
    doctor.doctor,
    fsck.fsck,
):
    cli.add_command(_command)


def main() -> None:
    """The command `task-runner`."""
    cli(prog_name="task-runner")

"""`task-runner`: the verbs for people. Exit codes stand in exitcode.py."""

from __future__ import annotations

from importlib import import_module

import click

from task_runner import __version__
from task_runner.cli.edge import Group, Session
from task_runner.cli.exitcode import HELP
from task_runner.cli.suggest import CONTEXT

#: in the order of the help: the module and its command; imported when it is asked for
COMMANDS = {
    "run": "run:run",
    "submit": "tasks:submit",
    "list": "tasks:list_tasks",
    "show": "tasks:show",
    "attempt": "tasks:attempt",
    "top": "top:top",
    "logs": "tasks:logs",
    "explain": "explain:explain",
    "files": "files:files",
    "get": "files:get",
    "wait": "wait:wait",
    "stop": "control:stop",
    "pause": "control:pause",
    "resume": "control:resume",
    "signal": "control:send_signal",
    "retry": "control:retry",
    "reschedule": "control:reschedule",
    "input": "input:give_input",
    "remove": "control:remove",
    "notifications": "notifications:notifications",
    "secrets": "notifications:secrets",
    "batch": "batch:batch",
    "template": "templates:template",
    "token": "tokens:token",
    "audit": "tokens:audit",
    "node": "node:node",
    "drain": "node:drain",
    "undrain": "node:undrain",
    "context": "context:context",
    "config": "config:config",
    "completion": "completion:completion",
    "export": "export:export",
    "serve": "serve:serve",
    "doctor": "doctor:doctor",
    "fsck": "fsck:fsck",
    "release-cgroups": "release:release_cgroups",
}


class Commands(Group):
    """The commands of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"task_runner.cli.{module}"), name)
        return command


@click.group(cls=Commands, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The daemon: http://HOST:PORT, https://HOST:PORT, unix:///PATH.")
@click.option("--state-dir", metavar="DIR", help="Its state directory (TASK_RUNNER_STATE_DIR).")
@click.option(
    "--context",
    metavar="NAME",
    shell_complete=CONTEXT,
    help="The daemon of this name (TASK_RUNNER_CONTEXT; see `context`).",
)
@click.version_option(__version__, prog_name="task-runner")
@click.pass_context
def cli(ctx: click.Context, url: str | None, state_dir: str | None, context: str | None) -> None:
    """Run tasks on this machine: each in a process, a directory and a log of its own."""
    ctx.obj = Session(url=url, state_dir=state_dir, context=context)

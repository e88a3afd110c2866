"""`task-runner serve`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from task_runner.cli.edge import Session, pass_session

#: flags of OpenSandbox's task-executor; those that are true where they have no value
_SWITCHES = ("enable-sidecar-mode", "enable-container-mode")
EXECUTOR_FLAGS = (
    "data-dir", "listen-addr", *_SWITCHES, "main-container-name", "cri-socket", "reconcile-interval",
    "log-dir", "log-max-size", "log-max-backups", "log-max-age",
)  # fmt: skip
_EPILOG = (
    "With --dialect executor also the flags of OpenSandbox's task-executor, with one dash or two: "
    + ", ".join(f"--{name}" for name in EXECUTOR_FLAGS)
    + "; and its environment variables (DATA_DIR, LISTEN_ADDR …). See doc/dialects.md."
)


class _Serve(click.Command):
    """Takes the task-executor's flags as Go programs take them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_as_options(args)))


def _as_options(arguments: list[str]) -> Iterator[str]:
    for each in arguments:
        found = re.fullmatch(r"--?([a-z-]+)(=.*)?", each, re.DOTALL)
        if found is None or found[1] not in EXECUTOR_FLAGS:
            yield each
        else:
            yield f"--{found[1]}" + (found[2] or ("=true" if found[1] in _SWITCHES else ""))


def _executor_flags(command: Any) -> Any:
    for name in reversed(EXECUTOR_FLAGS):
        command = click.option(f"--{name}", hidden=True)(command)
    return command


@click.command(cls=_Serve, epilog=_EPILOG)
@click.option(
    "--bind",
    multiple=True,
    metavar="ADDRESS",
    help="HOST:PORT or unix:/PATH; again for more. [127.0.0.1:8000]",
)
@click.option("--auth", type=click.Choice(["token", "none"]), help="none: only on loopback or a Unix socket.")
@click.option("--state-dir", metavar="DIR", help="Where everything is kept (TASK_RUNNER_STATE_DIR).")
@click.option("--config", metavar="FILE", help="Settings, TOML (TASK_RUNNER_CONF).")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(["drove", "executor", "i3d"]),
    help="Serve the interface of another system, too; again for more.",
)
@_executor_flags
@pass_session
def serve(
    session: Session,
    /,
    bind: tuple[str, ...],
    auth: str | None,
    state_dir: str | None,
    config: str | None,
    dialects: tuple[str, ...],
    **flags: str | None,
) -> None:
    """Run the daemon. It stays in the foreground; its tasks outlive it."""
    from task_runner.api.serve import main

    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    if given and "executor" not in dialects:
        listed = ", ".join(f"--{name}" for name in given)
        raise click.UsageError(f"{listed}: of the task-executor, and taken with --dialect executor alone")
    main(
        bind=list(bind),
        state_dir=state_dir or session.state_dir,
        auth=auth,
        config=config,
        dialects=list(dialects),
        executor_flags=given,
    )

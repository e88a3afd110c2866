"""`task-runner serve`."""

from __future__ import annotations

import click

from task_runner.cli.edge import Session, pass_session


@click.command()
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
@pass_session
def serve(
    session: Session,
    bind: tuple[str, ...],
    auth: str | None,
    state_dir: str | None,
    config: str | None,
    dialects: tuple[str, ...],
) -> None:
    """Run the daemon. It stays in the foreground; its tasks outlive it."""
    from task_runner.api.serve import main

    main(bind=list(bind), state_dir=state_dir or session.state_dir, auth=auth, config=config, dialects=list(dialects))

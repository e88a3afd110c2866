"""`task-runner release-cgroups`: for the service unit alone."""

from __future__ import annotations

import click

from task_runner.lib import cgroups


@click.command("release-cgroups", hidden=True)
def release_cgroups() -> None:
    """Give cgroup controllers back, so that systemd can start the service again while tasks run.

    To be called by the unit's `ExecStopPost=`, and does nothing anywhere else.
    """
    cgroups.release_unit()

"""Tries whether a command can be run in a sandbox: `python -m task_runner.machines.sandboxtrial [UID GID]`.

With numbers it is run as that user, which only root can do. Says on standard error what is the matter.
"""

from __future__ import annotations

import os
import sys
import tempfile

from task_runner.errors import StartFailed
from task_runner.machines import sandbox, wrapper
from task_runner.machines.base import Context
from task_runner.machines.walls import Walls
from task_runner.model.grant import GrantedAccount
from task_runner.model.machines import ProcessParameters
from task_runner.model.walls import Sandbox


def attempt(account: GrantedAccount | None) -> None:
    """Run a command in a sandbox. Raises StartFailed."""
    wanted = ProcessParameters(command=["true"], sandbox=Sandbox())
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)  # noqa: S103
        context = Context(
            task_id="trial",
            attempt=1,
            action_index=0,
            work=work,
            env=dict(os.environ),
            stdout=1,
            stderr=2,
            locks="",
            walls=Walls(account=account),
        )
        ended = wrapper.carry_out(wanted, context, lambda: sandbox.make(wanted, context))
    if ended != 0:
        raise StartFailed(f"sandbox: true ended with {ended}")


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    account = None
    if arguments:
        uid, gid = map(int, arguments)
        account = GrantedAccount(uid=uid, gid=gid, groups=[gid], name=str(uid), home="/", shell="")
    try:
        attempt(account)
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

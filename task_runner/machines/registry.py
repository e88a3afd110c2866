"""From an action to a running child process: finds the machine by its name."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from task_runner.errors import StartFailed
from task_runner.machines import base, echo, process
from task_runner.machines.base import Context
from task_runner.model.spec import Action
from task_runner.model.terms import FileIn

_WAY_OUT = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"})


def start(action: Action, context: Context) -> int:
    """Start the action; returns the pid of its process. Raises StartFailed."""
    if action.wrapped:
        from task_runner.machines import wrapper  # as few are

        return wrapper.start(action.parameters, context)
    if action.machine == "process":
        return process.start(action.parameters, context)
    if action.machine == "echo":
        return base.start_forked(echo.load, action.parameters, context, masked=True)
    if action.machine == "download":
        return base.start_forked(_download, action.parameters, _with_way_out(context))
    if action.machine == "extract":
        return base.start_forked(_extract, action.parameters, context)
    if action.machine == "container":
        # the engine's own limits and user are for what it runs; this process is not to count among that
        return base.start_forked(_container, action.parameters, context, masked=True, walled=False)
    return base.start_forked(_installed(action.machine), action.parameters, context)


def remove(engine: str | None, context: Context) -> int:
    """Start to remove what a try of an action has left with a container engine; returns the pid. Raises StartFailed."""
    return base.start_forked(_removal, engine, context, masked=True, walled=False)


def place_files(files: list[FileIn], context: Context) -> int:
    """Start to put the task's files into its working directory; returns the pid. Raises StartFailed."""
    return base.start_forked(_files, files, _with_way_out(context))


def _with_way_out(context: Context) -> Context:
    """With what this machine says of proxies and certificates: of use to what fetches for the task, and nothing that a
    command gets unasked, for a proxy's URL may hold a password."""
    env = {name: value for name, value in os.environ.items() if name.lower() in _WAY_OUT}
    return replace(context, env={**env, **context.env}) if env else context


# these load libraries that no other runner has a use for: in the child alone, and while it can read them


def _download(_parameters: Any, _context: Context) -> base.Run:
    from task_runner.machines import download

    return download.run


def _extract(_parameters: Any, _context: Context) -> base.Run:
    from task_runner.machines import extract

    return extract.run


def _container(parameters: Any, context: Context) -> base.Run:
    from task_runner.machines.containers import standin

    return standin.load(parameters, context)


def _removal(parameters: Any, context: Context) -> base.Run:
    from task_runner.machines.containers import removal

    return removal.load(parameters, context)


def _files(_parameters: Any, _context: Context) -> base.Run:
    from task_runner.machines import files

    return files.run


def _installed(name: str) -> base.Load:
    """The machine that an installed package offers; imported in the child alone, by design, and inside its walls: it
    may take for ever, which the runner is not to wait for."""

    def load(_parameters: Any, _context: Context) -> base.Run:
        from importlib.metadata import entry_points

        def run(parameters: Any, context: Context) -> int:
            for entry in entry_points(group="task_runner.machines", name=name):
                carry_out: base.Run = entry.load().run
                return carry_out(parameters, context)
            raise StartFailed(f"no machine {name!r} is installed")

        return run

    return load

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
    if action.machine == "process":
        return process.start(action.parameters, context)
    if action.machine == "echo":
        return base.start_forked(echo.run, action.parameters, context, masked=True)
    if action.machine == "download":
        return base.start_forked(_download, action.parameters, _with_way_out(context))
    if action.machine == "extract":
        return base.start_forked(_extract, action.parameters, context)

    def run(parameters: Any, context: Context) -> int:
        return _installed(action.machine)(parameters, context)

    return base.start_forked(run, action.parameters, context)


# these load libraries that no other runner has a use for: in the child alone


def place_files(files: list[FileIn], context: Context) -> int:
    """Start to put the task's files into its working directory; returns the pid. Raises StartFailed."""
    return base.start_forked(_files, files, _with_way_out(context))


def _with_way_out(context: Context) -> Context:
    """With what this machine says of proxies and certificates: of use to what fetches for the task, and nothing that a
    command gets unasked, for a proxy's URL may hold a password."""
    env = {name: value for name, value in os.environ.items() if name.lower() in _WAY_OUT}
    return replace(context, env={**env, **context.env}) if env else context


def _download(parameters: Any, context: Context) -> int:
    from task_runner.machines import download

    return download.run(parameters, context)


def _extract(parameters: Any, context: Context) -> int:
    from task_runner.machines import extract

    return extract.run(parameters, context)


def _files(parameters: Any, context: Context) -> int:
    from task_runner.machines import files

    return files.run(parameters, context)


def _installed(name: str) -> base.Run:
    """The machine that an installed package offers; imported in the child alone, by design."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="task_runner.machines", name=name):
        run: base.Run = entry.load().run
        return run
    raise StartFailed(f"no machine {name!r} is installed")

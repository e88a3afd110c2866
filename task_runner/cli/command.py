"""The command of a task as it is typed: what `run` and `batch run` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from task_runner.cli.terms import terms
from task_runner.cli.values import reading

F = TypeVar("F", bound=Callable[..., Any])


def mount(text: str) -> dict[str, Any]:
    """SOURCE[:TARGET][:ro] as a mount. Raises ValueError."""
    source, *more = text.split(":")
    read_only = more[-1:] == ["ro"]
    target = more[: len(more) - read_only]
    if len(target) > 1 or not all(each.startswith("/") for each in (source, *target)):
        raise ValueError(f"{text!r} is not SOURCE[:TARGET][:ro] with absolute paths")
    return {"source": source, **({"target": target[0]} if target else {}), **({"readOnly": True} if read_only else {})}


_SHELL = click.option("--shell", is_flag=True, help="Give the words of CMD, with blanks between, to /bin/sh -c.")
_OPTIONS = [
    click.option("--env", "-e", multiple=True, metavar="NAME[=VALUE]", help="A variable; without VALUE, yours."),
    click.option("--cwd", metavar="DIR", help="Where to run. [the current directory]"),
    click.option("--work-dir", is_flag=True, help="Run in the task's own directory; so it does with --file."),
    click.option("--image", metavar="IMAGE", help="Run CMD (or what the image runs) in a container of this image."),
    click.option(
        "--mount",
        "mounts",
        multiple=True,
        callback=reading(mount),
        metavar="SOURCE[:TARGET][:ro]",
        help="Show this directory or file of the server in the container; again for more.",
    ),
    click.option("--network", metavar="NAME", help="The container's network."),
    click.option("--pull", type=click.Choice(["missing", "always", "never"]), help="When to fetch it. [missing]"),
    click.option("--engine", type=click.Choice(["podman", "docker", "cri"]), help="Which one runs the container."),
]
#: options that say something of a container
_OF_CONTAINERS = ("mounts", "network", "pull", "engine")


def command_options(command: F) -> F:
    """Add the options; `task_body` takes what they give."""
    return _SHELL(surroundings_options(command))


def surroundings_options(command: F) -> F:
    """The same, where it is settled what goes to a shell."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def task_body(
    *,
    local: bool,
    command: tuple[str, ...],
    shell: bool = False,
    env: tuple[str, ...] = (),
    cwd: str | None = None,
    work_dir: bool = False,
    image: str | None = None,
    **given: Any,
) -> dict[str, Any]:
    """What to POST. ``local``: the daemon's directories are ours. ``given``: what `terms` takes."""
    if cwd is not None and work_dir:
        raise click.UsageError("--cwd and --work-dir exclude each other")
    of_container = {name: given.pop(name, None) for name in _OF_CONTAINERS}
    if image is not None:
        return _container(image, command, shell, env, cwd, of_container) | terms(given)
    for name, value in of_container.items():
        if value:
            raise click.UsageError(f"--{name.removesuffix('s')} needs --image IMAGE")
    own = work_dir or (cwd is None and given.get("files"))
    wanted: dict[str, Any] = {
        "workingDirectory": None if own else _directory(cwd, local),
        "env": dict(_variable(each) for each in env),
    }
    what: dict[str, Any] = {"shell": " ".join(command)} if shell else {"command": list(command)}
    return what | {name: value for name, value in wanted.items() if value} | terms(given)


def _container(
    image: str, command: tuple[str, ...], shell: bool, env: tuple[str, ...], cwd: str | None, more: dict[str, Any]
) -> dict[str, Any]:
    wanted = {
        "image": image,
        "command": ["/bin/sh", "-c", " ".join(command)] if shell else None,
        "args": None if shell else list(command),
        "env": dict(_variable(each) for each in env),
        "workingDirectory": cwd,
        **{name: list(value) if name == "mounts" else value for name, value in more.items() if value},
    }
    return {"machine": "container", "parameters": {name: value for name, value in wanted.items() if value}}


def _directory(cwd: str | None, local: bool) -> str | None:
    if not local:
        return cwd  # the current directory means nothing on another machine
    return os.path.abspath(cwd or ".")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise click.UsageError(f"--env {name}: there is no such variable in your environment")
    return name, os.environ[name]

"""`task-runner context add`, `list`, `use`, `remove`: names for daemons."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from task_runner.cli.output import Cell, clean, emit_array, json_option, say, table
from task_runner.cli.suggest import CONTEXT
from task_runner.client.discovery import contexts_path, is_local
from task_runner.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from task_runner.client.contexts import Context

#: no token is longer
_MOST = 4096


@click.group()
def context() -> None:
    """Give names to several daemons: `task-runner --context NAME …`.

    They are kept in $XDG_CONFIG_HOME/task-runner/contexts.toml (~/.config/…), readable for you alone, and the client
    library knows them as well: `Client(context="NAME")`.
    """


@context.command()
@click.argument("name")
@click.argument("url")
@click.option("--token-file", metavar="FILE", help="The token stands there; it is read each time.")
@click.option("--with-token", is_flag=True, help="Read the token from standard input, and keep it with the context.")
@click.option("--use", "chosen", is_flag=True, help="Use it from now on where nothing else is said.")
@click.option("--force", "-f", is_flag=True, help="Replace the context if it is there.")
def add(name: str, url: str, token_file: str | None, with_token: bool, chosen: bool, force: bool) -> None:
    """Let NAME stand for the daemon at URL: http://HOST:PORT, https://HOST:PORT, unix:///PATH.

    Without a token it is TASK_RUNNER_TOKEN that is sent, or the token of a daemon on this machine.
    """
    from task_runner.client.contexts import NAME, Context, changing

    if token_file is not None and with_token:
        raise click.UsageError("--token-file and --with-token exclude each other")
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r}: a name has at most 64 letters, digits, and .-_ behind the first")
    local = is_local(url)
    made = Context(
        name=name,
        url=url,
        token=_token() if with_token else None,
        token_file=None if token_file is None else os.path.abspath(token_file),
    )
    made.secret()  # a file that cannot be used is better known now
    with changing(contexts_path()) as held:
        if name in held[0].by_name and not force:
            raise Conflict(f"there is a context {name} already; --force replaces it")
        held[0] = replace(held[0].with_one(made), current=name if chosen else held[0].current)
    if url.startswith("http:") and not local and made.secret() is not None:
        say(f"{url}: without TLS everybody on the way can read the token")


def _token() -> str:
    """What is typed unseen, or comes on standard input."""
    typed = sys.stdin.isatty()
    found = (click.prompt("Token", hide_input=True, err=True) if typed else sys.stdin.read(_MOST + 1)).strip()
    if not found or len(found) > _MOST or not found.isascii() or not found.isprintable():
        raise InvalidRequest(f"a token is made of printable ASCII characters, {_MOST} at most")
    return str(found)


@context.command("list")
@json_option
def list_contexts(as_json: bool) -> None:
    """List the contexts; a star marks the one in use."""
    from task_runner.client.contexts import load

    found = load(contexts_path())
    if as_json:
        emit_array({**_shown(each), "current": each.name == found.current} for each in found.by_name.values())
        return
    table(("", "NAME", "TOKEN", "URL"), (_row(each, each.name == found.current) for each in found.by_name.values()))


def _shown(found: Context) -> dict[str, str | bool | None]:
    return {"name": found.name, "url": found.url, "hasToken": found.token is not None, "tokenFile": found.token_file}


def _row(found: Context, current: bool) -> list[Cell]:
    token = "kept here" if found.token is not None else clean(found.token_file or "-")
    return [("*" if current else "", "green"), (found.name, None), (token, None), (clean(found.url), None)]


@context.command()
@click.argument("name", required=False, shell_complete=CONTEXT)
@click.option("--none", is_flag=True, help="Use none: the daemon of this machine.")
def use(name: str | None, none: bool) -> None:
    """Use a context from now on where nothing else is said."""
    from task_runner.client.contexts import changing

    if (name is None) != none:
        raise click.UsageError("say NAME or --none")
    with changing(contexts_path()) as held:
        held[0] = replace(held[0], current=None if name is None else held[0].get(name).name)


@context.command()
@click.argument("name", shell_complete=CONTEXT)
def remove(name: str) -> None:
    """Forget a context, and the token that is kept with it."""
    from task_runner.client.contexts import changing

    with changing(contexts_path()) as held:
        if held[0].current == name:
            say(f"{name} was in use; now it is the daemon of this machine")
        held[0] = held[0].without(name)

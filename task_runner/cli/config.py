"""`task-runner config show`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from task_runner.cli import exitcode
from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, emit, json_option, paint, say, table
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    from task_runner.service.origins import Origin


@click.group()
def config() -> None:
    """Show what is set, and where."""


@config.command()
@click.option("--config", "file", metavar="FILE", help="Settings, TOML (TASK_RUNNER_CONF).")
@click.option("--changed", is_flag=True, help="Only what is not as it is by default.")
@json_option
@pass_session
@click.pass_context
def show(ctx: click.Context, session: Session, file: str | None, changed: bool, as_json: bool) -> None:
    """Show the settings with which `serve` would start here, and the daemon that the other verbs would talk to.

    A daemon that runs already may have been started with others. Tokens and passwords are not shown. Exit code 1 if
    something is wrong: a value, a file, or a name that is no setting.
    """
    if file is not None:
        os.environ["TASK_RUNNER_CONF"] = os.path.abspath(file)
    found, faults = _settings(session.state_dir)
    client, fault = _client(session)
    faults += [fault] if fault else []
    if as_json:
        emit({"settings": [dataclasses.asdict(each) for each in found], "client": client, "faults": faults})
    else:
        shown = [each for each in found if not changed or each.sources != ["default"]]
        table(("SETTING", "SOURCE", "VALUE"), map(_row, shown))
        click.echo("\nThe other verbs talk to:")
        for name, value in _words(client):
            click.echo(f"  {name:<9}{clean(value)}")
        for each in faults:
            say(each)
    ctx.exit(exitcode.FAILED if faults else exitcode.OK)


def _settings(state_dir: str | None) -> tuple[list[Origin], list[str]]:
    """Every setting, and what is wrong."""
    from task_runner.service import settings
    from task_runner.service.origins import Origin, origins, strangers

    faults: list[str] = []
    in_force = None
    try:
        in_force = settings.load(state_dir=state_dir)
    except TaskRunnerError as error:
        faults.append(str(error))
    try:
        found = origins(in_force)
        faults += strangers()
    except TaskRunnerError as error:
        return [], list(dict.fromkeys([*faults, str(error)]))
    if state_dir is not None:
        given = Origin(name="state_dir", value=state_dir, sources=["--state-dir"])
        found = [given if each.name == "state_dir" else each for each in found]
    return found, faults


def _row(found: Origin) -> list[Cell]:
    value = "unset" if found.value is None else json.dumps(found.value, ensure_ascii=False)
    is_default = found.sources == ["default"]
    return [
        (found.name, None if is_default else "cyan"),
        (clean(" and ".join(found.sources)), None),
        (clean(value), None),
    ]


def _client(session: Session) -> tuple[dict[str, Any] | None, str | None]:
    """Whom the other verbs would talk to, and why they would not."""
    from task_runner.client.contexts import load
    from task_runner.client.discovery import contexts_path

    try:
        address, known = session.address(), load(contexts_path())
    except TaskRunnerError as error:
        return None, str(error)
    return {
        "url": address.url,
        "urlFrom": "--url" if session.url else address.url_from,
        "hasToken": address.token is not None,
        "tokenFrom": address.token_from,
        "hint": address.hint,
        "contexts": [
            {"name": each.name, "url": each.url, "current": each.name == known.current}
            for each in known.by_name.values()
        ],
    }, None


def _words(client: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if client is None:
        yield "nobody", "see below"
        return
    yield "url", f"{client['url']} ({client['urlFrom']})"
    yield "token", client["tokenFrom"] or f"none: {client['hint'] or 'none is known'}"
    if client["contexts"]:
        names = (paint(each["name"], "green" if each["current"] else None) for each in client["contexts"])
        yield "contexts", ", ".join(names)

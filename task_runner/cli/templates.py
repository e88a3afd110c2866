"""`task-runner template list`, `show`, `put`, `delete`, and the values that `run --template` is given."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from typing import Any, BinaryIO

import click

from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, emit, emit_array, json_option, say, table
from task_runner.cli.suggest import TEMPLATE
from task_runner.client import Client
from task_runner.client.records import Template
from task_runner.errors import InvalidRequest

_LIMITS = {"choices": "one of", "pattern": "matches", "minLength": "characters from", "maxLength": "characters to"}
_BOUNDS = {"minimum": "from", "maximum": "to"}


@click.group()
def template() -> None:
    """Show and change templates. `task-runner run --template NAME` makes a task of one."""


@template.command("list")
@json_option
@pass_session
def list_templates(session: Session, as_json: bool) -> None:
    """List the templates of the server and their parameters."""
    with session.client() as client:
        found = client.templates()
    if as_json:
        emit_array(found)
    else:
        table(("NAME", "KEPT IN", "PARAMETERS", "DESCRIPTION"), map(_row, found))


def _row(found: Template) -> list[Cell]:
    names = [f"{name}{'' if each['required'] else '?'}" for name, each in found["parameters"].items()]
    about: Cell = (clean((found["description"] or "").partition("\n")[0]), None)
    if found["error"] is not None:
        about = (clean(f"cannot be used: {found['error']}"), "red")
    return [(clean(found["name"]), None), (found["origin"], None), (", ".join(names) or "-", None), about]


@template.command()
@click.argument("name", shell_complete=TEMPLATE)
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show one template: what it is for, its parameters, its task."""
    with session.client() as client:
        found = client.template(name)
    if as_json:
        emit(found)
        return
    for title, value in (("name", found["name"]), ("kept in", found["origin"]), ("changed", found["updatedAt"])):
        click.echo(f"{title:<13}{clean(value)}")
    for title, text in (("description", found["description"]), ("ERROR", found["error"])):
        if text is not None:
            click.echo(f"{title:<13}{clean(text)}")
    for parameter, declared in found["parameters"].items():
        click.echo(f"{'parameter':<13}{clean(_declaration(parameter, declared))}")
    if found["task"] is not None:
        click.echo(json.dumps(found["task"], ensure_ascii=True, indent=2))


def _declaration(name: str, declared: dict[str, Any]) -> str:
    needs = "required" if declared["required"] else f"default {json.dumps(declared['default'], ensure_ascii=False)}"
    limits = [f"{word} {_shown(declared[key])}" for key, word in {**_LIMITS, **_BOUNDS}.items() if key in declared]
    about = f": {declared['description']}" if declared.get("description") else ""
    return f"{name} ({', '.join([declared['type'], needs, *limits])}){about}"


def _shown(limit: Any) -> str:
    return ", ".join(map(str, limit)) if isinstance(limit, list) else str(limit)


@template.command()
@click.argument("name", shell_complete=TEMPLATE)
@click.argument("file", type=click.File("rb"))
@json_option
@pass_session
def put(session: Session, name: str, file: BinaryIO, as_json: bool) -> None:
    """Keep the template in FILE (JSON, or TOML where its name ends so; - is standard input) under NAME."""
    body = _read(file)
    with session.client() as client:
        found = client.put_template(name, body)
    emit(found) if as_json else say(f"template {found['name']} is kept")


@template.command()
@click.argument("name", shell_complete=TEMPLATE)
@pass_session
def delete(session: Session, name: str) -> None:
    """Forget a template. Tasks made of it stay as they are."""
    with session.client() as client:
        client.delete_template(name)


def _read(file: BinaryIO) -> dict[str, Any]:
    name = str(getattr(file, "name", "the file"))
    kind = "TOML" if os.path.splitext(name)[1] == ".toml" else "JSON"
    try:
        body = tomllib.loads(file.read().decode()) if kind == "TOML" else json.loads(file.read())
        json.dumps(body)  # TOML has dates, which a request has not
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{name} is not {kind} that can be sent: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest(f"{name}: a template is a JSON object")
    return body


def values(client: Client, name: str, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The values of a template's parameters, from texts, by their types. What does not fit is left to the server, which
    says what would."""
    declared = client.template(name)["parameters"]
    return {key: _value(text, declared.get(key, {}).get("type", "string")) for key, text in given}


def _value(text: str, kind: str) -> str | int | float | bool:
    try:
        match kind:
            case "boolean":
                return {"true": True, "false": False}.get(text, text)
            case "integer":
                return int(text)
            case "number":
                return float(text)
    except ValueError:
        pass
    return text

"""`task-runner token create`, `list`, `revoke`, and `task-runner audit`."""

from __future__ import annotations

from typing import Any

import click

from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, emit, emit_array, json_option, say, table
from task_runner.cli.values import reading, some_duration
from task_runner.client.records import Token
from task_runner.model.scopes import Scope

_AUDIT = ("AT", "TOKEN", "FROM", "STATUS", "REQUEST", "ON")
_SCOPES = [scope.value for scope in Scope]


@click.group()
def token() -> None:
    """Make and revoke tokens, each for what its holder needs. For holders of the scope `admin`."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    required=True,
    help="What it allows; can be given several times.",
)
@click.option(
    "--expires", callback=reading(some_duration), metavar="DURATION", help="It ends after this time: 12h, 30d."
)
@json_option
@pass_session
def create(session: Session, name: str, scopes: tuple[str, ...], expires: float | None, as_json: bool) -> None:
    """Make a token and print its secret, which is not to be had again."""
    with session.client() as client:
        made = client.create_token(name, scopes, expires)
    if as_json:
        emit(made)
        return
    until = f", until {made['expiresAt']}" if made["expiresAt"] else ""
    say(f"token {made['name']} allows {', '.join(made['scopes'])}{until}; it is shown this once")
    click.echo(made["token"])


@token.command("list")
@json_option
@pass_session
def list_tokens(session: Session, as_json: bool) -> None:
    """List the tokens. Their secrets are not kept."""
    with session.client() as client:
        found = client.tokens()
    if as_json:
        emit_array(found)
    else:
        table(("NAME", "MADE", "BY", "LAST USED", "ENDS", "SCOPES"), map(_row, found))


def _row(found: Token) -> list[Cell]:
    return [
        (clean(found["name"]), None),
        (found["createdAt"] or "-", None),
        (clean(found["createdBy"] or "-"), None),
        (found["lastUsedAt"] or "-", None),
        (found["expiresAt"] or "never", "red" if found["expired"] else None),
        (" ".join(found["scopes"]), None),
    ]


@token.command()
@click.argument("name")
@pass_session
def revoke(session: Session, name: str) -> None:
    """Let a token open nothing from now on. Streams that it has opened end."""
    with session.client() as client:
        client.revoke_token(name)


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, help="So many lines, the last ones (100).")
@json_option
@pass_session
def audit(session: Session, limit: int, as_json: bool) -> None:
    """Show who did what: each request that changed something or was refused, the newest last."""
    with session.client() as client:
        found = client.audit(limit)
    if as_json:
        emit_array(found)
    else:
        table(_AUDIT, map(_audit_row, found))


def _audit_row(line: dict[str, Any]) -> list[Cell]:
    texts = [line["at"], line.get("token"), line.get("from")]
    status = line.get("status")
    on = [*(line.get("parameters") or {}).values(), *(line.get("tasks") or ()), *filter(None, [line.get("batch")])]
    return [
        *((clean(str(text or "-")), None) for text in texts),
        (str(status or "-"), "red" if status is not None and status >= 400 else None),
        (clean(_request(line)), None),
        (clean(" ".join(map(str, on))) or "-", None),
    ]


def _request(line: dict[str, Any]) -> str:
    if "dropped" in line:
        return f"{line['dropped']} lines could not be written"
    if "damaged" in line:
        return "a line that is damaged"
    more = f" ({line['repeated']} more since {line['since']})" if "repeated" in line else ""
    return f"{line.get('method') or '-'} {line.get('route') or '-'}{more}"

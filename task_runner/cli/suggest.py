"""What the shell offers when Tab is pressed: tasks, batches, templates, contexts, as the daemon has them just now.

A person waits for it in the middle of a line: it takes a moment at most, and is silent whatever goes wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from task_runner.client import Client

#: seconds after which nothing is offered
MOMENT = 1.0
#: so many of the newest are offered
NEWEST = 100

Offer = tuple[str, str]
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]


def _completer(find: Callable[[click.Context, str], Iterable[Offer]]) -> Completer:
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        import threading

        from click.shell_completion import CompletionItem

        # the end of everything, a look-up of a name included, in which no timeout is heard
        timer = threading.Timer(MOMENT, os._exit, (0,))
        timer.daemon = True
        timer.start()
        try:
            offers = [each for each in find(ctx, incomplete) if each[0].startswith(incomplete)]
        except Exception:
            return []
        finally:
            timer.cancel()
        return [CompletionItem(value, help=_plain(words) or None) for value, words in offers]

    return complete


def _plain(words: str) -> str:
    """A help text on one line; click's fish script cuts it at a comma."""
    return "".join(each if each.isprintable() else " " for each in words).replace(",", ";")


def _client(ctx: click.Context) -> Client:
    """A client that gives up at once."""
    from task_runner.cli.quick import QuickClient, can_reach
    from task_runner.client import Client
    from task_runner.client.discovery import find, is_local

    given = ctx.find_root().params
    address = find(given.get("url"), given.get("state_dir"), context=given.get("context"))
    # beyond this machine a proxy may stand in between, which httpx knows of
    kind = QuickClient if is_local(address.url) and can_reach(address.url) else Client
    return kind.at(address, patience=0, timeout=MOMENT, met=False)


def _tasks(ctx: click.Context, _incomplete: str) -> Iterator[Offer]:
    from itertools import islice

    from task_runner.cli.describe import title, word

    with _client(ctx) as client:
        for task in islice(client.list(order="desc", limit=NEWEST), NEWEST):
            yield task["taskId"], f"{word(task)}: {title(task)}"[:80]


def _task_of_many(ctx: click.Context, incomplete: str) -> Iterator[Offer]:
    """Those that are not yet named on the line."""
    named: Any = ctx.params.get("ids") or ()
    return (each for each in _tasks(ctx, incomplete) if each[0] not in named)


def _batches(ctx: click.Context, _incomplete: str) -> Iterator[Offer]:
    with _client(ctx) as client:
        for batch in client.batches(NEWEST):
            over = "over" if batch["finishedAt"] else "active"
            yield batch["batchId"], f"{over}: {batch['numTasks']} tasks {batch['name'] or ''}".strip()


def _templates(ctx: click.Context, _incomplete: str) -> Iterator[Offer]:
    with _client(ctx) as client:
        for template in client.templates():
            yield template["name"], (template["description"] or "").partition("\n")[0][:80]


def _contexts(_ctx: click.Context, _incomplete: str) -> Iterator[Offer]:
    from task_runner.client.contexts import load
    from task_runner.client.discovery import contexts_path

    for each in load(contexts_path()).by_name.values():
        yield each.name, each.url


TASK, TASKS = _completer(_tasks), _completer(_task_of_many)
BATCH, TEMPLATE, CONTEXT = _completer(_batches), _completer(_templates), _completer(_contexts)

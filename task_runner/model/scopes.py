"""Scopes: what the holder of a token may do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One of them, in the order of how much it allows."""

    #: see tasks, batches, templates, events, the node, figures; not what tasks have written
    READ = "read"
    #: see what tasks have written: output and files
    LOGS = "logs"
    #: make tasks of templates
    SUBMIT_TEMPLATE = "submit-template"
    #: make any task, that is: run commands
    SUBMIT = "submit"
    #: stop, pause, try again, feed and remove tasks
    CONTROL = "control"
    #: all of this, and what concerns everybody: templates, tokens, draining, the audit log
    ADMIN = "admin"


_IMPLIED = {Scope.ADMIN: frozenset(Scope), Scope.SUBMIT: frozenset({Scope.SUBMIT, Scope.SUBMIT_TEMPLATE})}


def allowed(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """These and all that they imply."""
    return frozenset().union(*(_IMPLIED.get(each, frozenset({each})) for each in scopes))

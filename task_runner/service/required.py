"""Limits that a task requires: refused where it is plain that they cannot be enforced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from task_runner.errors import FieldError
from task_runner.lib import limits
from task_runner.model.spec import Spec
from task_runner.model.walls import Means

_REMEDY = (
    "Leave out limits.required to have it run all the same; doc/howto/limits.md says what the server needs for it"
)


def check(spec: Spec, means: Callable[[], Iterable[Means]]) -> Iterator[FieldError]:
    """What of the limits that a spec requires this server cannot enforce as they are asked for. ``means`` reads
    files of the kernel: it is asked only for a spec that requires something."""
    wanted = spec.limits
    if wanted is None or not wanted.required or not limits.apply_to(spec):
        return
    for note in limits.foresee(wanted, means()):
        if not limits.as_asked(note):
            how = "cannot be enforced here" if note.by is None else f"can be enforced only by {note.by} here"
            yield FieldError(f"limits.{note.limit}", f"{how}: {note.note}. {_REMEDY}")

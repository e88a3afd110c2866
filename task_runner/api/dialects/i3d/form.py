"""The two forms in which i3D.net's task system is described; they contradict each other.

`PROSE` is what its documentation shows, and the default. `OPENAPI` is its OpenAPI description, for clients generated
from that: they want every field that it has, no other, and read whole numbers of 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

PENDING, IN_PROGRESS, PAUSED, FAILED, DONE = 0, 1, 2, 126, 127


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What the two disagree about."""

    #: resultCode of a task that somebody stopped, and of one that its time limit did
    cancelled: int
    timed_out: int
    #: categoryId of tasks for application instances
    category: int
    #: a task has a name
    named: bool
    #: taskIds and requiredParams are lists of keys, and not objects
    keys_only: bool
    #: the largest number that its clients can read
    largest: int


PROSE = Form(cancelled=124, timed_out=125, category=2, named=False, keys_only=False, largest=2**63 - 1)
# 125 is "cancelled" there, and there is no code for "timed out": that is an error, which the text names
OPENAPI = Form(cancelled=125, timed_out=FAILED, category=1, named=True, keys_only=True, largest=2**31 - 1)

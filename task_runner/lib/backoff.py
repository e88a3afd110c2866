"""Whether an action that has ended is tried again, and when."""

from __future__ import annotations

import os

from task_runner.model.state import Outcome
from task_runner.model.terms import Retry


def delay(retry: Retry | None, tries: int, outcome: Outcome, chance: float) -> float | None:
    """Seconds until the next try after ``tries`` have ended, the last with ``outcome``; None: there is none.

    ``chance`` is from 0 to 1: how much of the jitter is used, and in which direction.
    """
    if retry is None or tries > retry.count or outcome.value not in {each.value for each in retry.on}:
        return None
    wait = growing(retry.delay_seconds, retry.factor, retry.max_delay_seconds, tries)
    return jittered(wait, retry.jitter, chance)


def growing(first: float, factor: float, most: float, tries: int) -> float:
    """The wait after ``tries`` in vain, without jitter: each is ``factor`` times the one before, up to ``most``."""
    # the exponent is bounded, for a float has an end and a long row of tries has none
    return min(most, first * factor ** min(tries - 1, 64))


def jittered(wait: float, jitter: float, chance: float) -> float:
    """A wait that is up to the part ``jitter`` of it shorter or longer."""
    return max(0.0, wait * (1 + jitter * (2 * chance - 1)))


def chance() -> float:
    """From 0 to 1. The module `random` would take more memory of a runner than all the rest of this."""
    return int.from_bytes(os.urandom(4), "big") / (2**32 - 1)

"""What a check of `task-runner doctor` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the doctor's."""

    name: str
    verdict: Verdict
    #: what was found
    found: str
    #: what to do about it
    remedy: str | None = None


#: some results about one thing; raises nothing that it can foresee
Check = Callable[[], Iterator[Result]]


def attempt(name: str, trial: Callable[[], object], why: str, *, otherwise: Verdict = "fail") -> Result:
    """Try something that is needed: ok where it works."""
    try:
        trial()
    except (OSError, AttributeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return Result(name, otherwise, f"does not work: {reason}", why)
    return Result(name, "ok", "works")

"""What was: the machine, and what ran on it."""

from __future__ import annotations

from task_runner.api.contract.base import Operation, ok
from task_runner.api.contract.node import NODE
from task_runner.api.params import Integer, Moment
from task_runner.client.records import History, Timeline

#: the interval that is meant where none is given
USUAL_SECONDS = 3600.0

HOURS = Integer(name="hours", default=6, low=1, high=24, meaning="How far back.")
_MOMENT = "Seconds since 1970, or ISO 8601 with a time zone."
FROM = Moment(name="from", meaning=f"Where the interval begins; left out: an hour before its end. {_MOMENT}")
TO = Moment(name="to", meaning=f"Where it ends; left out: now. {_MOMENT}")
LIMIT = Integer(name="limit", default=5000, low=1, high=20_000, meaning="How many attempts at most.")

GET_HISTORY = Operation(
    id="getHistory",
    tag=NODE,
    summary="Show what the machine and the queue were like over the last hours, in samples of ten seconds.",
    text="By column: the entries with one index belong together. `null`: not known. Where samples are missing, since no"
    " daemon ran, stands a moment of which nothing is known.",
    parameters=(HOURS,),
    answers=ok(History, "The samples, oldest first."),
)
GET_TIMELINE = Operation(
    id="getTimeline",
    tag=NODE,
    summary="Show which attempts of tasks ran within an interval.",
    text="By column, as the history. Where more of them ran in the interval than `limit`, those are told that"
    " started last, and `more` is true: the others started earlier.",
    parameters=(FROM, TO, LIMIT),
    answers=ok(Timeline, "The attempts, those that started last first."),
)

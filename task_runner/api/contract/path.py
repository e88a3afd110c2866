"""What stands in paths."""

from __future__ import annotations

from task_runner.api.params import Integer, Parameter

ATTEMPT = Integer(name="attempt", place="path", low=1, meaning="The number of the attempt, from 1.")
PATH: dict[str, Parameter] = {
    each.name: each
    for each in (
        Parameter(name="task_id", place="path", meaning="The id of a task, or its beginning where only one has it."),
        Parameter(name="batch_id", place="path", meaning="The id of a batch."),
        Parameter(name="name", place="path", meaning="The name."),
        Parameter(name="path", place="path", meaning="The path below the working directory."),
        ATTEMPT,
        Integer(name="n", place="path", low=1, meaning="The number of the notification on this server."),
    )
}

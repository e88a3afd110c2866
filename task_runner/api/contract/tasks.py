"""Tasks: making, reading, controlling."""

from __future__ import annotations

from task_runner.api.contract.base import FULL, Answer, Bytes, Document, Field, Fields, Operation, ok, page_of
from task_runner.api.contract.shapes import Success, Taken
from task_runner.api.params import Choice, Choices, Flag, Integer, Parameter, Seconds, Several
from task_runner.client.records import Attempt, Notification, Task
from task_runner.model.state import Outcome, State
from task_runner.service.explanation import Explanation

TAG = "Tasks"
#: seconds that a request may wait for something
MAX_WAIT = 300.0
PAGE, MAX_PAGE = 1000, 10_000
#: seconds of grace that a request may ask for
MAX_GRACE = 86_400

KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    pattern="^.{1,200}$",
    meaning="1 to 200 characters, remembered for a day: the same request with the same key makes nothing new, and is"
    " answered with what the first one made.",
)
WAIT = Seconds(name="wait", default=0.0, high=MAX_WAIT, meaning="Answer when it is over, or after this time.")
WAIT_STOP = Seconds(name="wait", default=0.5, high=MAX_WAIT, meaning="Answer when it is over, or after this time.")

STATE = Choices(name="state", allowed=tuple(each.value for each in State), meaning="Where it is in its life.")
OUTCOME = Choices(name="outcome", allowed=tuple(each.value for each in Outcome), meaning="How it ended.")
BATCH = Parameter(name="batch", meaning="The id of a batch.")
ENTITY = Parameter(name="entity", meaning="The name of an entity.")
ORIGIN = Parameter(name="origin", meaning="The interface it came in by: `v1`, `cli`, or a dialect.")
ALIAS = Parameter(name="alias", meaning="The one task that has it, if any.")
TAGGED = Several(
    name="tag", pattern="=", meaning="`key=value`; given several times, all must match.", example="branch=main"
)
STALLED = Flag(name="stalled", default=None, meaning="Only those that are, or are not, marked as stalled.")
TEXT = Parameter(name="q", meaning="Text that stands in the id, the name or the spec; A to Z match in either case.")
ORDER = Choice(name="order", allowed=("asc", "desc"), default="asc", meaning="Oldest or newest first.")
LIMIT = Integer(name="limit", default=PAGE, low=1, high=MAX_PAGE, meaning="Tasks on a page.")
CURSOR = Integer(name="cursor", meaning="Where the page begins; taken from the header `Link` of the page before.")
LISTED = (STATE, OUTCOME, BATCH, ENTITY, ORIGIN, ALIAS, TAGGED, STALLED, TEXT, LIMIT, CURSOR, ORDER)

OFFSET = Integer(name="offset", meaning="Take the bytes only if so many came before: a repeated request is then safe.")
END = Flag(name="end", meaning="There will be no more.")

_SIGNAL = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 31}]}
SIGNAL = Field(schema=_SIGNAL, meaning="A signal from 1 to 31, by name (`SIGHUP`, `HUP`) or number.", required=True)
STOPPING = Fields(
    fields={
        "signal": Field(
            schema={"anyOf": [*_SIGNAL["anyOf"], {"type": "null"}]},
            meaning="The polite signal, by name or number, in place of the spec's.",
        ),
        "graceSeconds": Field(
            schema={"type": ["number", "null"], "minimum": 0, "maximum": MAX_GRACE},
            meaning="From the polite signal to SIGKILL, in place of the spec's.",
        ),
    },
    example={"signal": "SIGINT", "graceSeconds": 2},
)
SIGNALLING = Fields(fields={"signal": SIGNAL}, example={"signal": "SIGHUP"})
CHANGING = Fields(
    fields={
        "executeAt": Field(
            schema={"type": ["number", "string", "null"], "minimum": 0},
            meaning="Seconds since 1970, or ISO 8601 with a time zone; `null` or 0: now.",
            required=True,
        )
    },
    example={"executeAt": "2100-02-01T03:00:00+01:00"},
)
NOTHING = Fields()

_CONTROL = {503: "The daemon is still examining the tasks of its predecessor.", **FULL}
_LEADS = (
    ("getTask", "task_id", "/taskId"),
    ("explainTask", "task_id", "/taskId"),
    ("getOutput", "task_id", "/taskId"),
    ("listFiles", "task_id", "/taskId"),
    ("pauseTask", "task_id", "/taskId"),
    ("resumeTask", "task_id", "/taskId"),
    ("stopTask", "task_id", "/taskId"),
    ("retryTask", "task_id", "/taskId"),
    ("listNotifications", "task_id", "/taskId"),
    ("deleteTask", "task_id", "/taskId"),
)

CREATE = Operation(
    id="createTask",
    tag=TAG,
    summary="Accept a task.",
    text="201 is sent once the task is on stable storage: it will run, whatever happens to the daemon. The body is a"
    " spec in its long form (`actions`), one of its short forms (`command` or `shell`; `machine` and `parameters`), or"
    " a `template` with `parameters`. The scope `submit-template` is enough for the last; the others need `submit`.",
    parameters=(KEY,),
    body=Document(component="NewTask", example={"command": ["make", "-j4"], "timeoutSeconds": 600}),
    answers={
        201: Answer(
            meaning="Accepted.", shape=Task, headers={"Location": "The address of the task."}
        ),
        200: Answer(
            meaning="The idempotency key was used before, and this is the task that was made then.",
            shape=Task,
            headers={"Location": "The address of the task."},
        ),
    },
    refuses={409: "The idempotency key was used for another body; or the alias is taken by another task.", **FULL},
    leads=_LEADS,
)
LIST = Operation(
    id="listTasks",
    tag=TAG,
    summary="List tasks, oldest first, a page at a time.",
    text="Following `Link` yields every task once, also while tasks are added and end.",
    parameters=LISTED,
    answers=page_of(list[Task], "The tasks of the page."),
    example="state=exited&outcome=failed&limit=10",
)
GET = Operation(
    id="getTask",
    tag=TAG,
    summary="Show one task; wait for its end, where asked to.",
    text="The beginning of the id is enough where only one task has it. What is not known is `null`.",
    parameters=(WAIT,),
    answers=ok(Task, "The task as it is now."),
    example="wait=60",
)
CHANGE = Operation(
    id="rescheduleTask",
    tag=TAG,
    summary="Give another time to a task that has not started.",
    body=CHANGING,
    answers=ok(Task, "The task with its new time."),
    refuses={409: "It has started.", **FULL},
)
DELETE = Operation(
    id="deleteTask",
    tag=TAG,
    summary="Forget a task and remove its directory.",
    text="One that is active is gone from lists at once, is stopped, and is removed when nothing of it is alive.",
    answers=ok(Success),
    refuses={409: "Other tasks wait for its end.", **FULL},
)
STOP = Operation(
    id="stopTask",
    tag=TAG,
    summary="Stop a task: the polite signal, then, after the grace, SIGKILL.",
    text="A task that is waiting is cancelled without ever having started; one that is over stays as it is. A second"
    " stop can only shorten the grace.",
    parameters=(WAIT_STOP,),
    body=STOPPING,
    answers=ok(Task, "The task as it is by then: `stopping`, or already `exited`."),
    refuses=FULL,
    example="wait=60",
)
PAUSE = Operation(
    id="pauseTask",
    tag=TAG,
    summary="Freeze every process of a task, and its time limit.",
    body=NOTHING,
    answers=ok(Task, "The task, paused."),
    refuses={409: "It does not run."},
)
RESUME = Operation(
    id="resumeTask",
    tag=TAG,
    summary="Let a paused task go on.",
    body=NOTHING,
    answers=ok(Task, "The task, running."),
    refuses={409: "It is not paused."},
)
SEND_SIGNAL = Operation(
    id="signalTask",
    tag=TAG,
    summary="Send a signal to the first process of the current action.",
    body=SIGNALLING,
    answers=ok(Task, "The task."),
    refuses={409: "It does not run; or it is paused, and the signal would let a part of it run."},
)
RETRY = Operation(
    id="retryTask",
    tag=TAG,
    summary="Run a task that is over once more, as a new attempt.",
    body=NOTHING,
    answers=ok(Task, "The task, with its new attempt."),
    refuses={409: "It is not over.", **FULL},
)
INPUT = Operation(
    id="giveInput",
    tag=TAG,
    summary="Write to the command's standard input.",
    text="The spec must have asked for it to be kept open (`openStdin`).",
    parameters=(OFFSET, END),
    body=Bytes("The bytes."),
    answers=ok(Taken, "How many bytes have come by now."),
    refuses={409: "The input has ended, another number came before, or the task does not run.", **FULL},
    example="offset=0&end=true",
)
ATTEMPT = Operation(
    id="getAttempt",
    tag=TAG,
    summary="Show the whole status of one attempt, as its runner wrote it.",
    answers=ok(Attempt, "The status."),
)
EXPLAIN = Operation(
    id="explainTask",
    tag=TAG,
    summary="Say why a task waits, what it does now, or how it ended.",
    text="Nothing in it is guessed. `lastOutput` is `null` for a token without the scope `logs`.",
    answers=ok(Explanation, "What is known beyond the status; `summary` in words."),
)
NOTIFICATIONS = Operation(
    id="listNotifications",
    tag=TAG,
    summary="List what the webhooks of a task were to be told, oldest first, and what came of it.",
    answers=ok(list[Notification], "The notifications."),
)
REDELIVER = Operation(
    id="redeliverNotification",
    tag=TAG,
    summary="Send a notification once more, or now instead of later.",
    body=NOTHING,
    answers=ok(Notification, "The notification, to be sent."),
    refuses=FULL,
)

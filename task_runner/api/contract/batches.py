"""Batches and templates."""

from __future__ import annotations

from task_runner.api.contract.base import FULL, Answer, Document, Operation, ok, page_of
from task_runner.api.contract.shapes import Success
from task_runner.api.contract.tasks import CURSOR, KEY, MAX_WAIT, NOTHING, STOPPING, WAIT_STOP
from task_runner.api.params import Integer, Seconds
from task_runner.client.records import Batch, BatchResult, Template
from task_runner.client.records.template import TemplateHead

BATCHES, TEMPLATES = "Batches", "Templates"

PAGE, MAX_PAGE = 100, 1000
LIMIT = Integer(name="limit", default=PAGE, low=1, high=MAX_PAGE, meaning="How many.")
WAIT = Seconds(
    name="wait", default=0.0, high=MAX_WAIT, meaning="Answer as soon as all of it is over, or after so many seconds."
)
_LEADS = tuple((name, "batch_id", "/batchId") for name in ("getBatch", "getBatchResults", "stopBatch", "pauseBatch"))
_LOCATION = {"Location": "The address of the batch."}

CREATE = Operation(
    id="createBatch",
    tag=BATCHES,
    summary="Accept up to 10,000 tasks together: all of them, or none.",
    text="Either `tasks`, each as for `POST /v1/tasks`, or one `task` for each of `entities`. In `after` a task can"
    " name another of the batch by its `name`.",
    parameters=(KEY,),
    body=Document(
        component="NewBatch",
        example={"name": "nightly", "tasks": [{"shell": "exit 3", "name": "build"}, {"command": ["true"]}]},
    ),
    answers={
        201: Answer(meaning="Accepted; `tasks` has the ids.", shape=Batch, headers=_LOCATION),
        200: Answer(
            meaning="The idempotency key was used before, and this is the batch that was made then.",
            shape=Batch,
            headers=_LOCATION,
        ),
    },
    refuses={409: "The idempotency key was used for another body; or an alias is taken by another task.", **FULL},
    leads=_LEADS,
)
LIST = Operation(
    id="listBatches",
    tag=BATCHES,
    summary="List batches, the newest first.",
    parameters=(LIMIT, CURSOR),
    answers=page_of(list[Batch], "The batches."),
    example="limit=10",
)
GET = Operation(
    id="getBatch",
    tag=BATCHES,
    summary="Show a batch, with its counts; wait for its end, where asked to.",
    parameters=(WAIT,),
    answers=ok(Batch, "The batch as it is now."),
    example="wait=60",
)
RESULTS = Operation(
    id="getBatchResults",
    tag=BATCHES,
    summary="Say what became of each task of a batch that has not been removed.",
    answers=ok(list[BatchResult], "In the order given."),
)
STOP = Operation(
    id="stopBatch",
    tag=BATCHES,
    summary="Stop all tasks of a batch that are not over.",
    parameters=(WAIT_STOP,),
    body=STOPPING,
    answers=ok(Batch, "The batch as it is by then."),
    refuses=FULL,
)
PAUSE = Operation(
    id="pauseBatch",
    tag=BATCHES,
    summary="Freeze what runs of a batch, and start none of it, until it is resumed.",
    body=NOTHING,
    answers=ok(Batch, "The batch."),
    refuses=FULL,
)
RESUME = Operation(
    id="resumeBatch",
    tag=BATCHES,
    summary="Let a paused batch go on.",
    body=NOTHING,
    answers=ok(Batch, "The batch."),
    refuses=FULL,
)

LIST_TEMPLATES = Operation(
    id="listTemplates",
    tag=TEMPLATES,
    summary="List templates in the order of names, without their tasks.",
    answers=ok(list[TemplateHead], "The templates."),
)
GET_TEMPLATE = Operation(
    id="getTemplate", tag=TEMPLATES, summary="Show a template.", answers=ok(Template, "The template.")
)
PUT_TEMPLATE = Operation(
    id="putTemplate",
    tag=TEMPLATES,
    summary="Keep a template under a name.",
    text="It is checked and tried out first, with the defaults of its parameters or with examples.",
    body=Document(
        component="NewTemplate",
        example={"parameters": {"branch": {"pattern": "[a-z0-9-]+"}}, "task": {"shell": "echo building ${branch}"}},
    ),
    answers={
        201: Answer(meaning="It is new.", shape=Template),
        200: Answer(meaning="It has taken the place of another.", shape=Template),
    },
    refuses={409: "It is a file of the configuration; or there are too many.", **FULL},
    leads=(("getTemplate", "name", "/name"), ("deleteTemplate", "name", "/name")),
)
DELETE_TEMPLATE = Operation(
    id="deleteTemplate",
    tag=TEMPLATES,
    summary="Forget a template; tasks made of it stay as they are.",
    answers=ok(Success),
    refuses={409: "It is a file of the configuration.", **FULL},
)

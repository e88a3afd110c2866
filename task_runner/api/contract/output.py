"""What tasks write and what happens to them: bytes, files, events."""

from __future__ import annotations

from task_runner.api.contract.base import BUSY, BYTES, EVENTS, PROBLEM, Answer, Operation
from task_runner.api.params import Choice, Flag, Integer, Parameter
from task_runner.client.records import FileEntry
from task_runner.service import archive

OUTPUT, FILES, HAPPENING = "Output", "Files", "Events"

#: what plain bytes show of a gap: a mark in its place, nothing, or they end before it
GAPS = ("mark", "skip", "stop")
FILES_PAGE, MOST_FILES = 1000, 10_000

STREAM = Choice(
    name="stream",
    allowed=("output", "stdout", "stderr"),
    meaning="`stdout` (unless said otherwise) or `stderr`, where the spec keeps them apart; else there is `output`.",
)
OFFSET = Integer(name="offset", default=0, meaning="Begin at this byte.")
TAIL = Integer(name="tail", meaning="Begin with the last so many lines.")
FOLLOW = Flag(name="follow", meaning="Stay, and send what is written, until the task is over.")
ATTEMPT = Integer(name="attempt", low=1, meaning="Of an earlier attempt; by itself, of the latest.")
GAP = Choice(
    name="gaps",
    allowed=GAPS,
    default="mark",
    meaning="What stands in place of bytes that are not kept: a line that says so, nothing; or the answer ends there.",
)
RANGE = Parameter(
    name="Range",
    place="header",
    meaning="`bytes=FIRST-LAST`: a part. What is no range of one piece is not heeded.",
)
LAST_OUTPUT = Integer(
    name="Last-Event-ID", place="header", meaning="Go on behind this event: its id is an offset. In place of `offset`."
)
IF_NONE_MATCH = Parameter(name="If-None-Match", place="header", meaning="The `ETag` that the client has.")
IF_RANGE = Parameter(name="If-Range", place="header", meaning="`Range` counts only while the `ETag` is this.")

RECURSIVE = Flag(name="recursive", meaning="And what is in directories below.")
FILE_LIMIT = Integer(name="limit", default=FILES_PAGE, low=1, high=MOST_FILES, meaning="Entries on a page.")
FILE_CURSOR = Parameter(name="cursor", meaning="Where the page begins; taken from `Link` of the page before.")
AS_LIST = Flag(name="list", meaning="List a file instead of sending it.")
ARCHIVE = Choice(name="archive", allowed=tuple(archive.FORMATS), meaning="All of a directory, packed while it is sent.")
FILE_QUERY = (RECURSIVE, FILE_LIMIT, FILE_CURSOR, AS_LIST, ARCHIVE)

AFTER = Integer(
    name="after",
    high=10**18 - 1,
    meaning="Go on behind the event with this id. 0: from the oldest that is kept.",
)
USE = Integer(
    name="use",
    low=1,
    high=60,
    meaning="Tell every so many seconds what running tasks use, in events called `use`.",
)
LAST_EVENT = Integer(
    name="Last-Event-ID",
    place="header",
    high=10**18 - 1,
    meaning="The same, as browsers send it by themselves; it comes before `after`.",
)

_OUTPUT_EVENTS = (
    "Events `output` (`offset`, and `text` or, where that is not UTF-8, `base64`) and `gap` (`offset`, `bytes`); the id"
    " is the offset behind. The last one is `end`, with the `state` of the task."
)
_OFFSET_HEADER = {"X-Output-Offset": "Where the answer begins.", "Accept-Ranges": "`bytes`"}
_NO_RANGE = "There is nothing at this place; `Content-Range` says how much there is, where that is known."

GET_OUTPUT = Operation(
    id="getOutput",
    tag=OUTPUT,
    summary="Read what a task has written, from any offset, and follow it.",
    text="A byte at an offset stays the same byte for ever. With `Accept: text/event-stream` it comes as events.",
    parameters=(STREAM, OFFSET, TAIL, FOLLOW, ATTEMPT, GAP, RANGE, LAST_OUTPUT),
    answers={
        200: Answer(meaning="The output.", media={BYTES: "The bytes.", EVENTS: _OUTPUT_EVENTS}, headers=_OFFSET_HEADER),
        206: Answer(
            meaning="A part of it, at most 16 MiB.",
            media={BYTES: "The bytes."},
            headers={**_OFFSET_HEADER, "Content-Range": "Which bytes."},
        ),
        416: Answer(
            meaning=_NO_RANGE + " In a gap: `X-Output-Offset` says where to go on.",
            media={PROBLEM: "Why."},
            headers={"Content-Range": "`bytes */*`", "X-Output-Offset": "Behind the gap."},
        ),
    },
    refuses=BUSY,
    example="tail=10&follow=true",
)
_FILE_HEADERS = {
    "ETag": "Of the file as it is now.",
    "Last-Modified": "When it was last changed.",
    "Accept-Ranges": "`bytes`",
    "Content-Disposition": "Its name.",
}
_ARCHIVES = {media: f"With `archive={name}`." for name, media in archive.MEDIA_TYPES.items()}
LINK = {"Link": 'Of a list: leads to the next page, `rel="next"`, where there is one.'}
LIST_FILES = Operation(
    id="listFiles",
    tag=FILES,
    summary="List the files of a task, or pack them.",
    text="What is in its working directory, which all its attempts share; also while it runs. An archive that cannot be"
    " finished is broken off: the connection ends without the end of the answer.",
    parameters=FILE_QUERY,
    answers={200: Answer(meaning="The list, or the archive.", shape=list[FileEntry], media=_ARCHIVES, headers=LINK)},
    refuses={409: "The directory cannot be read; or there are too many files for a zip.", **BUSY},
    example="recursive=true",
)
GET_FILE = Operation(
    id="getFile",
    tag=FILES,
    summary="Send one file; of a directory, list or pack what is in it.",
    text="Links are not followed, on no part of the path, and nothing but regular files is ever opened. Bytes of a name"
    " that do not stand for themselves in an address are written as `%FF`.",
    parameters=(*FILE_QUERY, RANGE, IF_NONE_MATCH, IF_RANGE),
    answers={
        200: Answer(
            meaning="The file; the list or the archive of a directory.",
            shape=list[FileEntry],
            media={BYTES: "The file.", **_ARCHIVES},
            headers={**_FILE_HEADERS, **LINK},
        ),
        206: Answer(
            meaning="A part of the file.",
            media={BYTES: "The bytes."},
            headers={**_FILE_HEADERS, "Content-Range": "Which bytes."},
        ),
        304: Answer(meaning="The client has it.", headers=_FILE_HEADERS),
        416: Answer(
            meaning=_NO_RANGE,
            media={PROBLEM: "Why."},
            headers={"Content-Range": "`bytes */SIZE`", "Accept-Ranges": "`bytes`"},
        ),
    },
    refuses={409: "What is there is a link, is no regular file or directory, or cannot be read.", **BUSY},
)
_EVENT = (
    "Each event is called `state`; its `data` is an `Event` without `id`, which the event itself has. After 15 seconds"
    " of silence a comment is sent. Tasks that are removed are told of by an event called `gone`, without an id:"
    ' `{"at": …, "tasks": [ID, …]}`. With `use` there are events called `use` as well, one for each look at what'
    ' runs, without an id: `{"at": …, "monotonicSeconds": …, "tasks": {ID: [cpuSeconds, rssBytes, processes,'
    " outputBytes]}}`. The first has every task, each later one those of which something has changed since, which may"
    " be none; a rate is between"
    " the `monotonicSeconds` of two that follow one another."
)
_EVENTS_HEAD = {"X-Last-Event-Id": "Behind which event it begins."}
TASK_EVENTS = Operation(
    id="getTaskEvents",
    tag=HAPPENING,
    summary="Tell what happened to a task, from the beginning, and then what happens.",
    text="The stream stays open. It also ends when the daemon is stopped in good order; the next one goes on with it.",
    parameters=(AFTER, LAST_EVENT, USE),
    answers={200: Answer(meaning="Events.", media={EVENTS: _EVENT}, headers=_EVENTS_HEAD)},
    refuses=BUSY,
)
ALL_EVENTS = Operation(
    id="getEvents",
    tag=HAPPENING,
    summary="Tell what happens to all tasks.",
    text="Without `after` or `Last-Event-ID` it begins with what is new.",
    parameters=(AFTER, LAST_EVENT, USE),
    answers={200: Answer(meaning="Events.", media={EVENTS: _EVENT}, headers=_EVENTS_HEAD)},
    refuses=BUSY,
    example="after=0",
)

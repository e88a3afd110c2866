"""What the daemon writes to the launcher. A module of its own: the daemon does not load what the launcher runs."""

from __future__ import annotations

import json

from task_runner.model.codec import to_json
from task_runner.model.grant import Grant


def encode_request(
    task_id: str, attempt: int, directory: str, spec_json: bytes, options: bytes, grant: Grant | None = None,
    *, take_up: bool = False,
) -> bytes:  # fmt: skip
    """One request. ``spec_json`` and ``options`` are passed on unread. A grant goes this way and no other."""
    more = {"takeUp": True} if take_up else {}
    head = json.dumps({"id": task_id, "attempt": attempt, "directory": directory, **more}).encode()
    given = json.dumps(to_json(grant, sparse=True)).encode() if grant is not None else b""
    body = b"\n".join((head, options, given, spec_json))
    return b"%d\n" % len(body) + body

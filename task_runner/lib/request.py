"""What the daemon writes to the launcher. A module of its own: the daemon does not load what the launcher runs."""

from __future__ import annotations

import json


def encode_request(task_id: str, attempt: int, directory: str, spec_json: bytes, options: bytes) -> bytes:
    """One request. ``spec_json`` and ``options`` are passed on unread."""
    head = json.dumps({"id": task_id, "attempt": attempt, "directory": directory}).encode()
    body = b"\n".join((head, options, spec_json))
    return b"%d\n" % len(body) + body

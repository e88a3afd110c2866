"""What tasks have in their working directories."""

from __future__ import annotations

from typing import TypedDict


class FileEntry(TypedDict):
    """A file, a directory or a link in a task's working directory."""

    #: from the working directory; the same in base64 where it is not UTF-8
    path: str | None
    pathBase64: str | None
    #: where it is fetched
    href: str
    kind: str | None
    bytes: int | None
    modifiedAt: str | None
    mode: str | None
    #: of a link
    target: str | None
    targetBase64: str | None
    #: why nothing more is known
    error: str | None

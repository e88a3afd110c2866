"""URLs of what is to be fetched or told: checked, named and shown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from task_runner.model.workpath import file_parts

HTTP = ("http", "https")


def split(url: str, schemes: Sequence[str]) -> SplitResult:
    """The parts of a URL of one of these schemes. Raises ValueError."""
    try:
        found = urlsplit(url)
        found.port  # noqa: B018  it is parsed here
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if found.scheme not in schemes:
        raise ValueError(f"begins with {found.scheme}:, and may with {', '.join(f'{each}:' for each in schemes)}")
    if not url.isascii():
        raise ValueError("has characters in it that a URL must escape (%C3%A9 for é)")
    if found.scheme == "file":
        _check_file(found)
    elif not found.hostname:
        raise ValueError("names no host")
    return found


def _check_file(found: SplitResult) -> None:
    if found.netloc not in ("", "localhost"):
        raise ValueError("names a host; a file of this machine is expected: file:///path")
    if not found.path.startswith("/") or found.query or found.fragment:
        raise ValueError("is not of the form file:///path")
    if "\0" in unquote(found.path):
        raise ValueError("has a NUL in its path")


def file_name(url: str) -> str:
    """The name of a file at this URL: the last part of its path. Raises ValueError where there is none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    try:
        if len(file_parts(name)) == 1:
            return name
    except ValueError:
        pass
    raise ValueError("does not end with the name of a file")


def shown(url: str) -> str:
    """The URL for people to read, without what may be secret: user, password, query."""
    try:
        found = urlsplit(url)
        host = found.netloc.rpartition("@")[2]
    except ValueError:
        return f"{url.partition(':')[0]}:…"
    query = "?…" if found.query else ""
    return f"{found.scheme}://{host}{found.path}{query}"

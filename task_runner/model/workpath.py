"""Paths below a task's working directory, as clients and archives write them. Pure."""

from __future__ import annotations

#: Linux takes no longer name, and no longer path
MAX_NAME, MAX_PATH = 255, 4096


def parts(path: str) -> tuple[str, ...]:
    """The names along a relative path; none for the directory itself. Raises ValueError where it leads elsewhere.

    A `..` is refused wherever it stands: behind a symbolic link it means another directory than it seems to.
    """
    if path.startswith("/"):
        raise ValueError("is absolute; a path below the working directory is expected")
    if "\0" in path:
        raise ValueError("has a NUL in it")
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names:
        raise ValueError('has a ".." in it, which is not allowed')
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise ValueError(f"is longer than {MAX_PATH} bytes")
    if any(len(name.encode("utf-8", "surrogateescape")) > MAX_NAME for name in names):
        raise ValueError(f"has a name in it of more than {MAX_NAME} bytes")
    return names


def file_parts(path: str) -> tuple[str, ...]:
    """The names along the path of a file. Raises ValueError."""
    names = parts(path)
    if not names or path.endswith(("/", "/.")):
        raise ValueError("names a directory; a file is expected")
    return names

"""What has to be there before a task's first action: its files.

They are placed by a child process (machines/files.py), since they may be large, or fetched from far away, or from
somebody who does not answer. What it says goes to memory, and its last line is the error.
"""

from __future__ import annotations

import os

from task_runner.lib import signals

#: how much of what the child has said is looked at, from its end
_TAIL = 4096


def open_notes() -> int:
    """A place in memory for what the child says."""
    return os.memfd_create("files")


def error_of(notes: int, status: int | None) -> str | None:
    """Why the files could not be placed; None if they were. ``status`` is how the child ended, as waitpid says it."""
    code = None if status is None else os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    size = os.fstat(notes).st_size
    said = os.pread(notes, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), None)
    if last is None:
        last = "unknown" if code is None else f"exit code {code}" if code > 0 else signals.name_of(-code)
    return f"files: {last.removeprefix('files: ')}"

"""The `extract` machine: unpacks an archive inside the working directory."""

from __future__ import annotations

import os
from typing import Any

from task_runner.errors import ActionFailed, Damaged
from task_runner.machines import archives, worktree
from task_runner.machines.base import Context
from task_runner.machines.conduct import Meter, conduct, size
from task_runner.machines.unpack import Unpacking
from task_runner.model import workpath
from task_runner.model.codec import from_json
from task_runner.model.machines import ExtractParameters

#: what an archive may have beside the content of its files: at all, and for each entry
_BESIDE, _BESIDE_EACH = 64 << 20, 8 << 10


def run(parameters: Any, context: Context) -> int:
    """Unpack the archive; returns the exit code. What was made before a failure stays."""
    return conduct("extract", lambda: _extract(parameters, context))


def _extract(parameters: Any, context: Context) -> None:
    try:
        wanted = from_json(ExtractParameters, parameters)
        path, into = workpath.file_parts(wanted.path), workpath.parts(wanted.into)
    except (Damaged, ValueError) as error:
        raise ActionFailed(str(error)) from None
    root = worktree.open_work(context.work)
    with worktree.open_file(root, path) as file:
        target = worktree.descend(root, into, make=True)
        done = Unpacking(
            target, strip=wanted.strip_components, max_bytes=wanted.max_bytes, max_entries=wanted.max_entries
        )
        try:
            _unpack(file, wanted, done, Meter(context))
        except ActionFailed as error:
            raise ActionFailed(f"{wanted.path}: {error}") from None
    print(f"{wanted.path}: {done.entries} entries, {done.bytes} bytes")


def _unpack(file: Any, wanted: ExtractParameters, done: Unpacking, meter: Meter) -> None:
    length = os.fstat(file.fileno()).st_size

    def limit(decompressed: int) -> None:
        if decompressed > wanted.max_bytes + _BESIDE + _BESIDE_EACH * done.entries:
            raise ActionFailed(f"it holds more than the {wanted.max_bytes} bytes allowed (maxBytes), in few entries")

    def report() -> None:
        meter.at(file.tell() / length if length else None, told())

    def told() -> str:
        return f"{done.entries} entries, {size(done.bytes)}"

    for entry in archives.entries(file, wanted.format or archives.recognise(file), limit):
        done.put(entry, report)
        report()
    done.finish()
    meter.end(1.0, told())

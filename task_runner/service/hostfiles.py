"""Files of this machine that tasks may have read for them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

from task_runner.errors import FieldError
from task_runner.model.spec import Spec


class HostFiles:
    """``directories``: those below which they must lie. Said by words alone; where links lead is seen by who opens."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories

    def check(self, spec: Spec, _token: str = "") -> Iterator[FieldError]:
        """What a spec wants read and may not."""
        for index, file in enumerate(spec.files):
            if file.host_path is not None and not self._allows(file.host_path):
                yield FieldError(f"files.{index}.hostPath", self._words())
        for where, action in spec.every_action():
            url = action.parameters.get("url", "") if action.machine == "download" else ""
            if url.startswith("file:") and not self._allows(unquote(urlsplit(url).path)):
                yield FieldError(f"{where}.parameters.url", self._words())

    def _allows(self, path: str) -> bool:
        path = posixpath.normpath(path)
        return any(path.startswith(directory.rstrip("/") + "/") for directory in self._directories)

    def _words(self) -> str:
        allowed = ", ".join(self._directories) or "none"
        return f"the server lets tasks read files below these directories of its own (host_files): {allowed}"

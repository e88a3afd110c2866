"""Configs: files made in the task's working directory, and shown inside its container where they are wanted."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from task_runner.api.dialects.drove import httpcall
from task_runner.api.dialects.drove.httpcall import NameOf
from task_runner.api.dialects.drove.reader import EMPTY, NULL, Reader

_TYPES = ("INLINE", "EXECUTOR_LOCAL_FILE", "CONTROLLER_HTTP_FETCH", "EXECUTOR_HTTP_FETCH")
#: of the working directory; nobody else's files lie there
_DIRECTORY = "drove-configs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One file."""

    type: str
    #: as the request has it
    local_filename: str
    #: where it is inside
    target: str
    #: its source, as one of `files` of a spec has it
    source: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """What and where, without the content and without credentials."""
        return {"type": self.type, "localFilename": self.local_filename}


def read(spec: Reader, name_of: NameOf) -> list[Config]:
    """The configs without fault."""
    found = [_read(each, name_of) for each in spec.objects("configs")]
    return [each for each in found if each is not None]


def _read(reader: Reader, name_of: NameOf) -> Config | None:
    kind, name = reader.word("type", _TYPES), reader.text("localFilename", missing=EMPTY)
    target = None if name is None else _target(reader, name)
    source = None if kind is None else _source(reader, kind, name_of)
    if kind is None or name is None or target is None or source is None:
        return None
    return Config(type=kind, local_filename=name, target=target, source=source)


def _target(reader: Reader, name: str) -> str | None:
    """Drove unpacks them in the root directory of the container: a relative name is one of there."""
    if ".." in name.split("/") or "\x00" in name or posixpath.normpath(f"/{name}").strip("/") == "":
        reader.fault("localFilename", "- the path of a file is expected, without '..'")
        return None
    return "/" + posixpath.normpath(f"/{name}").lstrip("/")


def _source(reader: Reader, kind: str, name_of: NameOf) -> dict[str, Any] | None:
    match kind:
        case "INLINE":
            data = reader.text("data")
            if data is None:
                reader.fault("data", NULL)
            return None if data is None else {"base64": data}
        case "EXECUTOR_LOCAL_FILE":
            path = reader.text("filePathOnHost", missing=EMPTY)
            return None if path is None else {"hostPath": path}
    call = reader.object("http", missing=NULL)
    fetch = None if call is None else httpcall.read(call, name_of)
    return None if fetch is None else {"fetch": fetch}


def body(configs: list[Config]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`files` of a spec, and `workMounts` of its container."""
    paths = [f"{_DIRECTORY}/{index}" for index in range(len(configs))]
    files = [{"path": path, **each.source} for path, each in zip(paths, configs, strict=True)]
    shown = [{"path": path, "target": each.target} for path, each in zip(paths, configs, strict=True)]
    return files, shown

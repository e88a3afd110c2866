"""The files of the page, read once: what is served is what this program was installed with, and nothing beside it.

A name that a request asks for is a key of a table, so no path of a request ever reaches the file system.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
#: of a file by its ending; one with another ending is not served
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
#: what gzip would make no smaller
_PACKED = frozenset({".png", ".woff2"})
#: bytes; smaller ones fit into a packet anyhow
_WORTH_PACKING = 1024

_OWN = "'self'"
POLICY = "; ".join(
    f"{name} {value}"
    for name, value in {
        "default-src": "'none'",
        "script-src": _OWN,
        "style-src": _OWN,
        "img-src": f"{_OWN} data:",
        "connect-src": _OWN,
        "font-src": _OWN,
        "base-uri": "'none'",
        "form-action": _OWN,
        "frame-ancestors": "'none'",
    }.items()
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # asked for each time: after an upgrade no old script meets a new daemon
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file, ready to be sent."""

    kind: str
    etag: str
    body: bytes
    #: by gzip; none: that saves nothing
    packed: bytes | None

    def response(self, headers: Headers) -> Response:
        """The answer to a request with these headers."""
        packed = self.packed if _takes_gzip(headers.get("accept-encoding", "")) else None
        etag = f'"{self.etag}"' if packed is None else f'"{self.etag}-gzip"'
        more = {**HEADERS, "ETag": etag}
        if _is_one_of(etag, headers.get("if-none-match", "")):
            return Response(None, 304, more)
        if packed is not None:
            more["Content-Encoding"] = "gzip"
        return Response(self.body if packed is None else packed, 200, more, self.kind)


def load(directory: Path = STATIC) -> Mapping[str, Asset]:
    """The files below a directory, by their path in it."""
    found = {}
    for at, _directories, names in os.walk(directory):
        for path in (Path(at, name) for name in names):
            if kind := KINDS.get(path.suffix):
                found[path.relative_to(directory).as_posix()] = _asset(path.read_bytes(), kind, path.suffix)
    return found


def _asset(body: bytes, kind: str, suffix: str) -> Asset:
    packed = None
    if len(body) >= _WORTH_PACKING and suffix not in _PACKED:
        packed = gzip.compress(body, 9, mtime=0)
    return Asset(kind=kind, etag=hashlib.sha256(body).hexdigest()[:32], body=body, packed=packed)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        if coding.strip() == "gzip":
            weight = parameter.partition("=")[2].strip()
            return not weight or weight.strip("0.") != ""
    return False


def _is_one_of(etag: str, known: str) -> bool:
    return known.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in known.split(","))

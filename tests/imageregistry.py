"""A small image registry over HTTP: it serves, with or without a password, as fast as a test wants it to."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from images import Image, digest

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_STEP = 100_000


class Registry(ThreadingHTTPServer):
    """Serves the images it is given, at 127.0.0.1."""

    daemon_threads = True

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = login
        #: what is answered, by path
        self.pages: dict[str, tuple[str, bytes]] = {"/v2/": ("application/json", b"{}")}
        #: seconds between two parts of a layer
        self.pause = 0.0
        #: let go of by a test: until then a layer stops halfway
        self.rest = threading.Event()
        self.rest.set()
        #: what was asked for
        self.requests: list[str] = []
        self.ended = threading.Event()

    def add(self, name: str, tag: str, image: Image) -> str:
        """Serve an image; returns what to call it."""
        packed = image.packed
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "size": len(image.config), "digest": digest(image.config)},
                "layers": [{"mediaType": _LAYER, "size": len(packed), "digest": digest(packed)}],
            }
        ).encode()
        for reference in (tag, digest(manifest)):
            self.pages[f"/v2/{name}/manifests/{reference}"] = (_MANIFEST, manifest)
        for content in (image.config, packed):
            self.pages[f"/v2/{name}/blobs/{digest(content)}"] = ("application/octet-stream", content)
        return f"127.0.0.1:{self.server_port}/{name}:{tag}"

    def serve(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.rest.set()
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if not self._authorized():
            self._answer(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
        elif self.path in self.server.pages:
            self._answer(200, *self.server.pages[self.path])
        else:
            self._answer(
                404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such page"}]}'
            )

    do_HEAD = do_GET  # noqa: N815

    def _authorized(self) -> bool:
        if self.server.login is None:
            return True
        wanted = base64.b64encode(":".join(self.server.login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
        if kind == _MANIFEST:
            self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self._write(body)
        except OSError:
            self.close_connection = True  # the engine has been told to stop

    def _write(self, body: bytes) -> None:
        for at in range(0, len(body), _STEP):
            if at >= len(body) // 2:
                self.server.rest.wait()
            self.wfile.write(body[at : at + _STEP])
            if self.server.pause and self.server.ended.wait(self.server.pause):
                return

    def log_message(self, *_args: Any) -> None:
        pass

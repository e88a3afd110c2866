"""Container images made on the spot from busybox, without a registry and without an engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

BUSYBOX = "/bin/busybox"
#: what the tests call their image
BUSYBOX_IMAGE = "localhost/busybox:1"

_DIRECTORIES = ("bin", "dev", "proc", "sys", "etc", "tmp", "run", "srv")
_USERS = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nplayer:x:4321:4321:player:/srv:/bin/sh\n"
_GROUPS = b"root:x:0:\nnogroup:x:65534:\nplayer:x:4321:\n"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Image:
    """One layer and what to run of it."""

    layer: bytes
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    env: list[str] = field(default_factory=lambda: ["PATH=/bin"])
    user: str = ""

    @property
    def config(self) -> bytes:
        run = {"Env": self.env, "Cmd": self.command, "Entrypoint": self.entrypoint, "User": self.user}
        return json.dumps(
            {
                "architecture": _architecture(),
                "os": "linux",
                "config": run,
                "rootfs": {"type": "layers", "diff_ids": [digest(self.layer)]},
                "history": [{"created_by": "tests"}],
            }
        ).encode()

    @property
    def packed(self) -> bytes:
        """The layer as a registry hands it out."""
        return gzip.compress(self.layer, compresslevel=1, mtime=0)

    def save(self, path: Path, name: str) -> Path:
        """Write what `docker load`, `podman load` and `ctr images import` take."""
        config = digest(self.config)[7:] + ".json"
        manifest = [{"Config": config, "RepoTags": [name], "Layers": ["layer.tar"]}]
        files = [(config, self.config), ("layer.tar", self.layer), ("manifest.json", json.dumps(manifest).encode())]
        with tarfile.open(path, "w") as archive:
            for each, data in files:
                _add(archive, each, data)
        return path


def busybox(**what: list[str] | str | None) -> Image:
    """All of busybox, with a shell to run."""
    return Image(**{"layer": busybox_layer(), "command": ["sh"], **what})  # type: ignore[arg-type]


def busybox_layer(extra: bytes = b"") -> bytes:
    """A root directory; ``extra`` makes it another one, and larger."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name in _DIRECTORIES:
            _add(archive, name, None, 0o1777 if name == "tmp" else 0o755)
        _add(archive, "bin/busybox", Path(BUSYBOX).read_bytes(), 0o755)
        for name in applets:
            if name != "busybox":
                _link(archive, f"bin/{name}", "busybox")
        _add(archive, "etc/passwd", _USERS)
        _add(archive, "etc/group", _GROUPS)
        if extra:
            _add(archive, "srv/extra", extra)
    return layer.getvalue()


def single_file_layer(name: str, data: bytes) -> bytes:
    """A root directory with one program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        _add(archive, name, data, 0o755)
    return layer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes | None, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if data is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data or b""))


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

"""To have containerd get an image."""

from __future__ import annotations

import time
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as cri

from task_runner.engines.base import Login, Tell
from task_runner.engines.criconnection import Connection
from task_runner.errors import EngineFailed

#: seconds between two words on how long a pull has taken
_TELL = 1.0


def pull(engine: Connection, image: str, login: Login | None, tell: Tell) -> str:
    """See engines/base.py."""
    auth = None if login is None else cri.AuthConfig(username=login.username, password=login.password)
    with engine.asking():
        pulling = engine.images.PullImage.future(cri.PullImageRequest(image=cri.ImageSpec(image=image), auth=auth))
        begun = time.monotonic()
        try:
            tell(f"pulling {image}", None)
            while not _done(pulling, _TELL):
                # the CRI does not say how far it is
                tell(f"pulling {image} for {time.monotonic() - begun:.0f} s", None)
            reference = pulling.result().image_ref
        finally:
            pulling.cancel()
    found = engine.image_id(reference)
    if found is None:
        raise EngineFailed(f"the engine has pulled {image}, and does not have it")
    return found


def _done(call: Any, seconds: float) -> bool:
    try:
        call.result(timeout=seconds)
    except grpc.FutureTimeoutError:
        return False
    return True

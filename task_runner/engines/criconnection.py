"""A connection to an engine of the CRI, and what it says of its images, containers and sandboxes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from task_runner.engines.containerd import Tasks
from task_runner.engines.criorder import NAMESPACE
from task_runner.errors import EngineFailed

#: seconds for an answer that does not depend on what containers do
PATIENCE = 120.0
#: an engine that comes back is to be found at once
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 1 << 26),
    ("grpc.enable_http_proxy", 0),
]
Code = grpc.StatusCode


class Connection:
    """It is made with the first call, and made again after it was lost."""

    def __init__(self, name: str, socket: str) -> None:
        self._name = name
        self._socket = socket
        self._channel = grpc.insecure_channel(f"unix:{socket}", _OPTIONS)
        self.runtime: Any = api_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.images: Any = api_pb2_grpc.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.tasks = Tasks(self._channel)

    def close(self) -> None:
        self._channel.close()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Turns what grpc raises into EngineFailed, in the engine's words."""
        try:
            yield
        except grpc.RpcError as error:
            raise EngineFailed(self._words(error)) from error
        except ValueError as error:
            raise EngineFailed(f"the connection to {self._socket} is closed") from error

    def _words(self, error: Any) -> str:
        match error.code():
            case Code.UNAVAILABLE | Code.DEADLINE_EXCEEDED:
                return f"{self._name} does not answer at {self._socket}: {error.details()}"
            case Code.UNIMPLEMENTED:
                return f"{self._name} cannot do that: {error.details()}"
        return str(error.details())

    def image_id(self, image: str) -> str | None:
        """None: there is no such image here."""
        return self._image(image).image.id or None

    def image(self, image: str) -> dict[str, Any]:
        """What an image says of how it is run: "Entrypoint", "Cmd" …"""
        info = json.loads(self._image(image).info.get("info", "{}"))
        return dict(info.get("imageSpec", {}).get("config", {}))

    def _image(self, image: str) -> Any:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image), verbose=True)
        with self.asking():
            return self.images.ImageStatus(request, timeout=PATIENCE)

    def status(self, container: str) -> Any:
        """None: there is no such container."""
        request = cri.ContainerStatusRequest(container_id=container, verbose=True)
        with self.asking(), unless(Code.NOT_FOUND):
            return self.runtime.ContainerStatus(request, timeout=PATIENCE)

    def containers(self, selector: cri.ContainerFilter) -> list[Any]:
        with self.asking():
            request = cri.ListContainersRequest(filter=selector)
            return list(self.runtime.ListContainers(request, timeout=PATIENCE).containers)

    def state_directory(self) -> str:
        """Where containerd's CRI plugin keeps what containers need while they run."""
        with self.asking():
            info = self.runtime.Status(cri.StatusRequest(verbose=True), timeout=PATIENCE).info
        state = str(json.loads(info.get("config", "{}")).get("stateDir", ""))
        if not state:
            raise EngineFailed(f"what serves the CRI at {self._socket} is not containerd")
        return state

    def sandboxes(self) -> list[Any]:
        """Those that were made here."""
        with self.asking():
            found = self.runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=PATIENCE).items
        return [each for each in found if each.metadata.namespace == NAMESPACE]


@contextlib.contextmanager
def unless(*codes: grpc.StatusCode) -> Iterator[None]:
    """Answers that count as done."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() not in codes:
            raise

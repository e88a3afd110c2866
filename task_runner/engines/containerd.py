"""What containerd can do with a container of the CRI, and the CRI has no call for: its own service for tasks.

It is served on the same socket, under the same ids. The messages are written down here: nobody publishes a library of
them, and they have been frozen since containerd 1.0.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "containerd.services.tasks.v1"
#: under which the CRI keeps its containers
_NAMESPACE = (("containerd-namespace", "k8s.io"),)
_STRING, _UINT32, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)
#: fields that are read or written, of those that each message has: name, number, type
_MESSAGES = {
    "Request": [("container_id", 1, _STRING), ("signal", 3, _UINT32)],
    "Process": [("pid", 3, _UINT32), ("status", 4, _UINT32)],
    "Response": [("process", 1, _MESSAGE)],
    "Nothing": [],
}
_PAUSED = (4, 5)
#: seconds for an answer
_PATIENCE = 60.0


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tasks.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            entry = message.field.add(name=field, number=number, type=kind, label=1)
            if kind == _MESSAGE:
                entry.type_name = f".{_PACKAGE}.Process"
    messages: dict[str, Any] = message_factory.GetMessages([file], pool=descriptor_pool.DescriptorPool())
    return messages


class Tasks:
    """The service. Its calls raise grpc.RpcError: UNIMPLEMENTED where the engine is not containerd, NOT_FOUND where
    the container does not run."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._messages = _build()
        self._request = self._messages[f"{_PACKAGE}.Request"]

    def is_paused(self, container: str) -> bool:
        return self._call("Get", container, answer="Response").process.status in _PAUSED

    def pause(self, container: str) -> None:
        self._call("Pause", container)

    def resume(self, container: str) -> None:
        self._call("Resume", container)

    def kill(self, container: str, signal: int) -> None:
        """Send a signal to its main process."""
        self._call("Kill", container, signal=signal)

    def wait(self, container: str, seconds: float) -> None:
        """Returns when it has ended, or after so many seconds."""
        # without a deadline for the engine: it says of one that is over that something unknown went wrong
        waiting = self._method("Wait").future(self._request(container_id=container), metadata=_NAMESPACE)
        try:
            waiting.result(timeout=seconds)
        except grpc.FutureTimeoutError:
            pass
        finally:
            waiting.cancel()

    def _call(self, verb: str, container: str, *, signal: int = 0, answer: str = "Nothing") -> Any:
        request = self._request(container_id=container, signal=signal)
        return self._method(verb, answer)(request, metadata=_NAMESPACE, timeout=_PATIENCE)

    def _method(self, verb: str, answer: str = "Nothing") -> Any:
        return self._channel.unary_unary(
            f"/{_PACKAGE}.Tasks/{verb}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self._messages[f"{_PACKAGE}.{answer}"].FromString,
        )

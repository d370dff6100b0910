"""HTTP/1.1 for clients that are slow: to say what they want, to send all of it, or to read what they are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pairstill.serving.errors import ServiceError, error_response
from pairstill.serving.settings import Limits

CLOSE = (b"connection", b"close")


def protocol_of(limits: Limits) -> type[H11Protocol]:
    """The protocol of a service, one object a connection.

    A connection is closed on which a request's head does not arrive in time, or whose request was answered before all of its
    body had come; it is broken off where the client does not read its answer. More than so many connections are refused.

    Args:
        limits: `body_s`, `answer_s` and `connections` of them.
    """

    class Impatient(H11Protocol):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.app = _closing(self.app, self.conn)
            self._head: asyncio.TimerHandle | None = None
            self._answer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self.app = _refuse
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting_for_head()
            elif self._head is None:
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting_for_head()
            self._stop_waiting_for_reader()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait_for_reader()

        def resume_writing(self) -> None:
            self._stop_waiting_for_reader()
            super().resume_writing()
            self._wait_for_reader()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait_for_reader()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                refused = error_response(
                    400, "the request is not HTTP", expected="HTTP/1.1", fix="See its head, or use an HTTP client"
                )
                headers = [*refused.raw_headers, CLOSE]
                for event in (
                    h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=bytes(refused.body)),
                    h11.EndOfMessage(),
                ):  # fmt: skip
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
            self._wait_for_reader()

        def _wait_for_head(self) -> None:
            self._head = self.loop.call_later(limits.body_s, self._give_up)

        def _stop_waiting_for_head(self) -> None:
            if self._head is not None:
                self._head.cancel()
                self._head = None

        def _give_up(self) -> None:
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

        def _wait_for_reader(self) -> None:
            if self._answer is None and self.transport.get_write_buffer_size():
                self._answer = self.loop.call_later(limits.answer_s, self._break_off)

        def _stop_waiting_for_reader(self) -> None:
            if self._answer is not None:
                self._answer.cancel()
                self._answer = None

        def _break_off(self) -> None:
            self._answer = None
            # Closing would wait for ever for the client to read.
            if self.transport.get_write_buffer_size():
                self.transport.abort()

    return Impatient


def _closing(app: ASGIApp, connection: h11.Connection) -> ASGIApp:
    """An application whose answer ends the connection where the request's body has not wholly arrived by then."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and connection.their_state is h11.SEND_BODY:
                others = [one for one in message.get("headers", ()) if one[0].lower() != CLOSE[0]]
                message = {**message, "headers": [*others, CLOSE]}
            await send(message)

        await app(scope, receive, send_closing)

    return answer


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    refused = ServiceError(503, "too many connections are open", retry_after_s=1, fix="Ask again later", close=True)
    await refused.response()(scope, receive, send)

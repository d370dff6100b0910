"""Before any route: who may ask, how large and how slow a request may be; and after it, what was answered."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pairstill.serving.batcher import queue_full
from pairstill.serving.errors import ServiceError, error_response
from pairstill.serving.failures import log_failure
from pairstill.serving.observability import Metrics
from pairstill.serving.settings import ServeSettings, is_loopback

logger = logging.getLogger(__name__)
NEVER_REFUSED = ("/v1/admin/swap",)
WITH_BODY = ("POST", "PUT", "DELETE", "PATCH")


class Guard:
    """Wraps the application.

    Args:
        app: What is guarded.
        settings: Of the service.
        metrics: Told of every answer.
        open_paths: That need no key.
        overloaded: Whether questions are refused before they are read, which costs less than to read and refuse them.
        route_of: The pattern of the route that a request would have come to, for those that are refused before it.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServeSettings,
        metrics: Metrics,
        open_paths: Collection[str],
        overloaded: Callable[[], bool],
        route_of: Callable[[Scope], str],
    ) -> None:
        self._app, self._settings, self._metrics, self._open = app, settings, metrics, frozenset(open_paths)
        self._overloaded, self._route_of = overloaded, route_of
        self._held_bytes = 0
        # Without a key, a page from elsewhere whose name was pointed at this machine must not reach the service.
        self._local_names_only = settings.api_key is None and is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = _Answer(send)
        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            self._check_key(scope, headers)
            if scope["method"] == "POST" and scope["path"] not in NEVER_REFUSED and self._overloaded():
                await self._discard(receive)
                raise queue_full()
            if scope["method"] in WITH_BODY:
                await self._with_body(scope, headers, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except ServiceError as error:
            if answer.status is None:
                await error.response()(scope, receive, answer)
        except Exception as error:
            log_failure(logger, "a request failed", error)
            if answer.status is None:
                await error_response(500, "the service failed", fix="See its log")(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", None) or self._route_of(scope)
            self._metrics.answered(route, scope["method"], answer.status or 499, time.perf_counter() - began)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        if self._local_names_only and (host := headers.get(b"host", b"").decode("latin-1")):
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if not is_loopback(name):
                raise ServiceError(
                    421, "the request is addressed to another host", field="Host",
                    expected="localhost or 127.0.0.1: without an API key this service answers to no other name",
                    fix="Set an API key", close=True,
                )  # fmt: skip

    def _check_key(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        key = self._settings.api_key
        if key is None or scope["path"] in self._open:
            return
        given = headers.get(b"x-api-key")
        if given is None:
            scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
            given = value.strip() if scheme.lower() == b"bearer" else b""
        if not hmac.compare_digest(given, key.encode()):
            raise ServiceError(
                401, "the API key is missing or wrong" if given else "the API key is missing",
                expected="the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'", close=True,
            )  # fmt: skip

    async def _with_body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        limits = self._settings.limits
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise self._too_large()
        held = 0
        try:
            body = bytearray()
            try:
                async with asyncio.timeout(limits.body_s):
                    more = True
                    while more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            return
                        part, more = message.get("body", b""), message.get("more_body", False)
                        if len(body) + len(part) > limits.body_bytes:
                            raise self._too_large()
                        if self._held_bytes + len(part) > limits.body_bytes_in_all:
                            raise ServiceError(
                                503, "too many requests are being received", retry_after_s=1, fix="Ask again later",
                                close=True,
                            )  # fmt: skip
                        body += part
                        held += len(part)
                        self._held_bytes += len(part)
            except TimeoutError:
                raise ServiceError(
                    408, f"the body did not arrive within {limits.body_s:g} seconds", close=True
                ) from None
            if body and kind != b"application/json":
                raise ServiceError(
                    415, "the body is not declared as JSON", field="Content-Type", expected="application/json",
                    fix="Send the header 'Content-Type: application/json'",
                )  # fmt: skip
            await self._app(scope, _Replay(bytes(body), receive), send)
        finally:
            self._held_bytes -= held

    async def _discard(self, receive: Receive) -> None:
        """Let a body come and keep nothing of it, so that the client reads its answer and the connection can be used again."""
        left = self._settings.limits.body_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.limits.body_s):
                more = True
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = message.get("more_body", False)

    def _too_large(self) -> ServiceError:
        return ServiceError(
            413, "the body is too large", expected=f"at most {self._settings.limits.body_bytes:,} bytes",
            fix="Ask with fewer documents at a time, or start the service with a larger --body-mib", close=True,
        )  # fmt: skip


class _Answer:
    """Remembers the status of what is sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Replay:
    """The body that was read, then whatever the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: dict[str, Any] | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        first, self._first = self._first, None
        return first if first is not None else await self._receive()

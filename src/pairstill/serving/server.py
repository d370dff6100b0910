"""Running the application: the socket and the signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn

from pairstill.errors import InputError, PairstillError
from pairstill.machine import keep_freed_memory
from pairstill.serving.application import Application
from pairstill.serving.models import open_version
from pairstill.serving.protocol import protocol_of
from pairstill.serving.settings import ServeSettings

logger = logging.getLogger(__name__)
KEPT_BYTES = 512 * 2**20
"""Of freed memory: a thousand candidates take some 50 MB, and getting them from the system anew takes as long as the head."""
STOP_S = 5.0
"""Seconds beyond the time allowed for an answer after which requests in flight are given up."""
SWITCH_S = 0.0005
"""After how many seconds the thread that computes lets the one that answers have the interpreter."""


def serve(settings: ServeSettings, started: Callable[[str, float], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Of the service.
        started: Called with the address and the seconds that opening took, when requests are answered.

    Raises:
        InputError: The address cannot be listened on, or a student cannot do what it is there for.
        ArtefactError: A folder does not fit, or is damaged.
    """
    began = time.perf_counter()
    keep_freed_memory(KEPT_BYTES)
    listener = _listen(settings.host, settings.port)
    with contextlib.closing(listener):
        application = Application(settings, open_version(settings.sources, settings.threads))
        host, port = listener.getsockname()[:2]
        limits = settings.limits
        config = uvicorn.Config(
            application, http=protocol_of(limits), ws="none", loop="asyncio", lifespan="on", log_config=None,
            log_level="error", access_log=False, server_header=False,
            timeout_graceful_shutdown=int(limits.timeout_s + STOP_S), timeout_keep_alive=30, proxy_headers=False,
        )  # fmt: skip
        sys.setswitchinterval(SWITCH_S)
        shown = f"[{host}]" if ":" in host else host
        _Server(config, application, lambda: started(f"http://{shown}:{port}", time.perf_counter() - began)).run(
            [listener]
        )


class _Server(uvicorn.Server):
    """Ends with exit code 0 after a drain, and opens its folders again on SIGHUP."""

    def __init__(self, config: uvicorn.Config, application: Application, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._application, self._started = application, started
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the event loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._begin, self._drain)
        loop.add_signal_handler(signal.SIGHUP, self._begin, self._open_again)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        yield

    def _begin(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(what())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        service = self._application.service
        logger.info("draining")
        service.draining = True
        await asyncio.sleep(service.settings.drain_s)
        self.should_exit = True

    async def _open_again(self) -> None:
        # One may be under way and have read an older state; one that waits behind it will find what all signals until then announce.
        if self._opening > 1:
            return
        self._opening += 1
        try:
            await self._application.editing.swap({}, patient=True)
        except PairstillError as error:
            logger.error("nothing was opened again: %s", error)
        finally:
            self._opening -= 1

    def _interrupt(self) -> None:
        self.force_exit = self.should_exit
        self._application.service.draining = self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=1024)
        # Headers and body leave apart; on a kept connection the second would wait 40 ms for the first to be acknowledged. asyncio
        # sees to that only for sockets that name their protocol.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise InputError(
            f"the address {host}:{port} cannot be listened on: {error.strerror or error}",
            fix="Choose another --port or --host (--port 0 takes a free port)",
        ) from None

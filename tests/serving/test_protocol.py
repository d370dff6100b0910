"""Clients that are slow or speak no HTTP, against the protocol alone."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

uvicorn = pytest.importorskip("uvicorn")
from starlette.types import Receive, Scope, Send  # noqa: E402

from pairstill.serving.protocol import protocol_of  # noqa: E402
from pairstill.serving.server import _listen  # noqa: E402
from pairstill.serving.settings import Limits  # noqa: E402

LARGE = 32 << 20


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without reading; under `/large` more than any socket holds."""
    size = LARGE if scope["path"] == "/large" else 2
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"." * size})


@pytest.fixture
def server() -> Iterator[tuple[uvicorn.Server, int]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            application,
            http=protocol_of(Limits(body_s=5, answer_s=2, connections=3)),
            lifespan="off",
            log_config=None,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server, listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def rest(connection: socket.socket) -> bytes:
    """All until the server closes."""
    received = bytearray()
    while part := connection.recv(1 << 20):
        received += part
    return bytes(received)


@pytest.mark.parametrize("head", ["GET / HTTP/1.1", "POST / HTTP/1.1"])
@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
def test_an_answer_before_the_body_ends_the_connection(
    server: tuple[uvicorn.Server, int], head: str, body: bytes
) -> None:
    with connect(server[1]) as client:
        client.sendall(head.encode() + b"\r\nHost: localhost\r\n" + body)
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.lower().count(b"connection: close") == 1


def test_a_whole_request_leaves_the_connection_open(server: tuple[uvicorn.Server, int]) -> None:
    with connect(server[1]) as client:
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            answer = b""
            while not answer.endswith(b".."):
                answer += client.recv(4096)
            assert b"close" not in answer.lower()


@pytest.mark.parametrize("extra", [b"", b"Connection: close\r\n"])
def test_who_does_not_read_is_broken_off(server: tuple[uvicorn.Server, int], extra: bytes) -> None:
    with connect(server[1]) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n" + extra + b"\r\n")
        while not server[0].server_state.connections:
            time.sleep(0.01)
        while server[0].server_state.connections:
            time.sleep(0.01)
        # What the kernel had taken may still come.
        assert len(rest(client)) < LARGE


def test_who_reads_gets_all(server: tuple[uvicorn.Server, int]) -> None:
    with connect(server[1]) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(rest(client)) > LARGE


@pytest.mark.parametrize(
    "noise", [b"noise\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x16\x03\x01\x00" * 9]
)  # fmt: skip
def test_what_is_not_http_is_told_so_as_everything_else(server: tuple[uvicorn.Server, int], noise: bytes) -> None:
    with connect(server[1]) as client:
        client.sendall(noise)
        client.shutdown(socket.SHUT_WR)
        head, _, body = rest(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert set(json.loads(body)["error"]) == {"message", "field", "expected", "fix"}


def test_too_many_connections_are_refused(server: tuple[uvicorn.Server, int]) -> None:
    held = [connect(server[1]) for _ in range(3)]
    while len(server[0].server_state.connections) < 3:
        time.sleep(0.01)
    with connect(server[1]) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert rest(client).startswith(b"HTTP/1.1 503")
    for one in held:
        one.close()


def test_no_part_of_an_answer_waits_for_another_to_be_acknowledged() -> None:
    with _listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        with socket.create_connection(address), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

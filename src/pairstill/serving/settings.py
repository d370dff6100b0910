"""What a service is told when it starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

from pairstill.errors import InputError

API_KEY_VARIABLE = "PAIRSTILL_API_KEY"
LEAST_KEY_CHARACTERS = 8


@dataclass(frozen=True)
class Limits:
    """What a request may ask for, and how requests share the processor.

    "Pairs" are those of stored items; a text that has to be encoded counts as 32 (`work.TEXT_COST`).

    Attributes:
        body_bytes: Of a request's body.
        body_bytes_in_all: Of all bodies that are held at a time; a request that would exceed it is answered 503.
        body_s: Seconds in which a request's head, and then its body, must have arrived.
        answer_s: Seconds in which a client must have read its answer; then the connection is broken off.
        answer_characters: Of all stored texts in an answer.
        answer_numbers: Of all vectors in an answer.
        documents: Documents or tuples of a request, and ids or items of an edit.
        characters: Of a text.
        encoded_texts: Texts of a request to `/v1/encode`.
        candidates: Of a search.
        timeout_s: Seconds from a request's arrival to its answer; what is still queued then is answered 503.
        queue_pairs: Pairs of all admitted requests; a request that would exceed it is answered 429, unless it is alone.
        batch_pairs: Pairs that are computed together, and the share of a long request that is computed before others.
        batch_wait_ms: Milliseconds that the first request of a batch waits for others while the processor has just been
            busy; none waits where it was idle.
        connections: Open at a time; a further one is answered 503.
    """

    body_bytes: int = 4 << 20
    body_bytes_in_all: int = 64 << 20
    body_s: float = 10.0
    answer_s: float = 30.0
    answer_characters: int = 4 << 20
    answer_numbers: int = 1 << 20
    documents: int = 2000
    characters: int = 50_000
    encoded_texts: int = 64
    candidates: int = 2000
    timeout_s: float = 10.0
    queue_pairs: int = 131_072
    batch_pairs: int = 2048
    batch_wait_ms: float = 1.0
    connections: int = 1000

    def __post_init__(self) -> None:
        for one in fields(self):
            least = 0 if one.name == "batch_wait_ms" else 1e-3 if one.type == "float" else 1
            value = getattr(self, one.name)
            if not least <= value < float("inf"):
                raise InputError(f"the limit {one.name} is {value}", expected=f"at least {least}")
        if self.body_bytes_in_all < self.body_bytes:
            raise InputError(
                f"all bodies may have {self.body_bytes_in_all} bytes, one of them {self.body_bytes}",
                expected="room for at least one",
            )


@dataclass(frozen=True)
class Sources:
    """The folders that a service serves; a swap replaces some of them.

    Attributes:
        student: Exported student that scores.
        stores: Of its items, by position of the field from 0.
        texts: File of ids and texts of the items, for display and for the teacher; None shows no texts.
        search_student: Exported student of single vectors that finds candidates; None where `student` does it or nothing.
        search_store: Of its items.
        index: Of the searched store; None searches exactly.
        teacher: Exported student whose scores are shown beside; None where there is none.
    """

    student: Path
    stores: Mapping[int, Path] = field(default_factory=dict)
    texts: Path | None = None
    search_student: Path | None = None
    search_store: Path | None = None
    index: Path | None = None
    teacher: Path | None = None

    def __post_init__(self) -> None:
        if (self.search_student is None) != (self.search_store is None):
            raise InputError(
                "a search student and a search store belong together", expected="both of them, or none",
                fix="Give --search-student and --search-store",
            )  # fmt: skip


@dataclass(frozen=True)
class ServeSettings:
    """Everything that `pairstill serve` is told.

    Attributes:
        sources: What is served.
        name: Of the model in answers; None takes the student's folder's name.
        host: Address that is listened on.
        port: 0 takes a free one.
        threads: Of the runtime; None takes all cores that are ours.
        api_key: That requests must carry; None asks for none.
        open_to_all: Whether an address that is not this machine's own may be listened on without a key.
        drain_s: Seconds from SIGTERM, when readiness turns 503, to the moment when no more connections are accepted.
        query_cache_bytes: Of encodings of queries that are kept; 0 keeps none.
        limits: See `Limits`.
    """

    sources: Sources
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    threads: int | None = None
    api_key: str | None = None
    open_to_all: bool = False
    drain_s: float = 1.0
    query_cache_bytes: int = 16 << 20
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"the port is {self.port}", expected="0 to 65535")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"the number of threads is {self.threads}", expected="at least 1")
        if not 0 <= self.drain_s < float("inf"):
            raise InputError(f"draining takes {self.drain_s} seconds", expected="0 or more")
        if self.query_cache_bytes < 0:
            raise InputError(f"the cache of queries has {self.query_cache_bytes} bytes", expected="0 or more")
        if self.api_key is not None:
            _check_key(self.api_key)
        elif not is_loopback(self.host) and not self.open_to_all:
            raise InputError(
                f"the address {self.host} can be reached from other machines, and no API key is set",
                fix=f"Set one with --api-key-file or the variable {API_KEY_VARIABLE}, or say --no-auth if everybody may ask",
            )

    @cached_property
    def model_name(self) -> str:
        """What answers call the model; kept, since every answer says it."""
        return self.name or self.sources.student.resolve().name


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own and cannot be reached from others."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_api_key(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The key of a file, or else of the environment; None where there is none.

    Raises:
        InputError: The file cannot be read, or the key cannot be one.
    """
    if file is None:
        key = environment.get(API_KEY_VARIABLE)
        return _check_key(key) if key is not None else None
    try:
        return _check_key(file.read_text(encoding="utf-8").strip(), file)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the API key cannot be read: {type(error).__name__}", file=file) from None


def _check_key(key: str, file: Path | None = None) -> str:
    if len(key) < LEAST_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            "the API key cannot be used", file=file,
            expected=f"at least {LEAST_KEY_CHARACTERS} visible ASCII characters on one line",
        )  # fmt: skip
    return key

"""What a client is told when something is wrong: one shape for all errors, with what was expected and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from pairstill.errors import ArtefactError, PairstillError, UnavailableError

NAMES_SHOWN, CHARACTERS_SHOWN = 10, 100
RETRY_AFTER_S = 10
"""Seconds after which a full disk may have room again."""


class ServiceError(HTTPException):
    """An answer that is not 200.

    Args:
        status: HTTP status.
        found: What is wrong, as one sentence; never a text of the client's.
        field: Place in the body, such as `documents.3.id`.
        expected: What would have been right.
        fix: What to do.
        retry_after_s: Seconds after which the same request may succeed.
        close: Whether the connection cannot be used again.
    """

    def __init__(
        self,
        status: int,
        found: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
    ) -> None:
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if close:
            headers["Connection"] = "close"
        super().__init__(status, found, headers)
        self.found, self.field, self.expected, self.fix = found, field, expected, fix

    def response(self) -> JSONResponse:
        """The answer itself."""
        return error_response(self.status_code, self.found, self.field, self.expected, self.fix, self.headers)


def error_response(
    status: int,
    found: str,
    field: str | None = None,
    expected: str | None = None,
    fix: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The one shape of errors."""
    body = {"error": {"message": found, "field": field, "expected": expected, "fix": fix}}
    return JSONResponse(body, status, headers)


def from_validation(error: RequestValidationError) -> JSONResponse:
    """422: the first thing that is wrong with a body or a parameter, and where else something is."""
    found = error.errors()
    first = found[0]
    place = _place(first["loc"])
    message = str(first["msg"])
    if first["type"] == "missing" and place is None:
        return error_response(422, "the request has no body", expected="a JSON object, see /openapi.json")
    expected = None
    if first["type"] == "model_attributes_type" and "an object" in first["loc"]:
        message, expected = "this is no item", 'a text, {"text": ...} or {"id": ...}'
    elsewhere = [str(one) for one in dict.fromkeys(_place(one["loc"]) for one in found) if one not in (place, None)]
    if elsewhere:
        shown = ", ".join(one[:CHARACTERS_SHOWN] for one in elsewhere[:NAMES_SHOWN])
        more = f" and {len(elsewhere) - NAMES_SHOWN} more" if len(elsewhere) > NAMES_SHOWN else ""
        message += f"; wrong, too: {shown}{more}"
    return error_response(422, message, place, expected, fix="See /openapi.json")


def from_library(error: PairstillError) -> JSONResponse:
    """What the library refused: 503 what it may do later, 409 where a folder does not fit, 422 for everything else."""
    expected, fix = getattr(error, "expected", None), getattr(error, "fix", None)
    if isinstance(error, UnavailableError):
        return error_response(503, str(error), None, expected, fix, {"Retry-After": str(RETRY_AFTER_S)})
    return error_response(409 if isinstance(error, ArtefactError) else 422, str(error), None, expected, fix)


def unknown_ids(ids: Sequence[str], field: str, *, needed: bool = True) -> ServiceError:
    """404 that names the first of the ids that are not stored, and what to do where they are `needed`."""
    shown = ", ".join(repr(one[:CHARACTERS_SHOWN]) for one in ids[:NAMES_SHOWN])
    more = f" and {len(ids) - NAMES_SHOWN} more" if len(ids) > NAMES_SHOWN else ""
    return ServiceError(
        404, f"unknown ids: {shown}{more}", field=field, expected="ids of items that are stored",
        fix='Store them with PUT /v1/items, or give them as {"text": ...}' if needed else None,
    )  # fmt: skip


def _place(location: Sequence[Any]) -> str | None:
    """`documents.3.text` of pydantic's location: without where it came from, and without names of a union's branches."""
    parts = [str(part) for part in location[1:] if part not in BRANCHES]
    return ".".join(parts) or None


BRANCHES = ("a text", "an id", "an object")
"""Names of the branches of unions in `schemas`, which mean nothing to a client."""

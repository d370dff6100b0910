"""JSON in and out: strict when it is read, quick when it is written."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json

from pairstill.serving.errors import ServiceError


class JsonRequest(Request):
    """A request whose JSON may have no NaN or infinity, no lone surrogate and no deep nesting (200 levels)."""

    async def json(self) -> Any:
        """The body as Python values.

        Raises:
            ServiceError: 400, it is not JSON.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise ServiceError(400, f"the body is not JSON: {error}", expected="one JSON object in UTF-8") from None


class JsonRoute(APIRoute):
    """A route whose body is read by `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with the other request."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handler


def json_response(content: Any) -> Response:
    """An answer of plain values; numbers must be finite."""
    return Response(to_json(content, inf_nan_mode="constants"), media_type="application/json")

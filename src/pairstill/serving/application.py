"""The application: routes, what guards them, and their life from start to stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from pairstill import __version__
from pairstill.errors import PairstillError
from pairstill.serving import schemas
from pairstill.serving.cohere import cohere_router
from pairstill.serving.editing import Editing
from pairstill.serving.errors import ServiceError, error_response, from_library, from_validation
from pairstill.serving.guard import Guard
from pairstill.serving.json_route import JsonRoute, json_response
from pairstill.serving.models import Version
from pairstill.serving.page.routes import PAGE_PATHS, page_router
from pairstill.serving.service import Service
from pairstill.serving.settings import ServeSettings, is_loopback
from pairstill.serving.text_embeddings_inference import text_embeddings_inference_router

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": schemas.ErrorBody}, 503: {"model": schemas.ErrorBody}}
OPEN_PATHS = ("/health", "/ready", *PAGE_PATHS)
"""Paths that need no key; the page itself holds no data."""


class Application:
    """The service as an ASGI application.

    Args:
        settings: Of the service.
        version: What it serves first.

    Attributes:
        service: Answers requests.
        editing: Changes what is served.
    """

    def __init__(self, settings: ServeSettings, version: Version) -> None:
        self.service = Service(settings, version)
        self.editing = Editing(self.service)
        api = FastAPI(
            title="Pairstill", version=__version__, docs_url=None, redoc_url=None, lifespan=self._lifespan,
            description="Scores of tuples of texts, ranked documents and search, on a CPU.", redirect_slashes=False,
        )  # fmt: skip
        routers = (
            _scoring(self.service), _items(self.editing), _administration(self.service, self.editing),
            _state(self.service), cohere_router(self.service), text_embeddings_inference_router(self.service), page_router(),
        )  # fmt: skip
        for router in routers:
            api.include_router(router)
        for kind in (ServiceError, RequestValidationError, PairstillError, HTTPException, Exception):
            api.add_exception_handler(kind, _on_error)
        batcher = self.service.batcher

        def route_of(scope: Scope) -> str:
            routes = (route for router in routers for route in router.routes)
            return getattr(
                next((one for one in routes if one.matches(scope)[0] is not Match.NONE), None), "path", "unknown"
            )

        self._app = Guard(api, settings, self.service.metrics, OPEN_PATHS, lambda: batcher.overloaded, route_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.service.batcher.start()
        yield
        await self.editing.stop()
        await self.service.batcher.stop()


def _scoring(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["Scoring"], responses=ERRORS)

    @router.post("/score", response_model=schemas.ScoreResponse)
    async def score(body: schemas.ScoreRequest) -> Response:
        """Scores of tuples."""
        return json_response(await service.score(body))

    @router.post("/rank", response_model=schemas.RankResponse)
    async def rank(body: schemas.RankRequest) -> Response:
        """Documents of one query in the order of their scores."""
        return json_response(await service.rank(body))

    @router.post("/search", response_model=schemas.SearchResponse)
    async def search(body: schemas.SearchRequest) -> Response:
        """The best stored items for a query."""
        return json_response(await service.search(body))

    @router.post("/encode", response_model=schemas.EncodeResponse)
    async def encode(body: schemas.EncodeRequest) -> Response:
        """What the student keeps of texts."""
        return json_response(await service.encode(body))

    return router


def _items(editing: Editing) -> APIRouter:
    router = APIRouter(prefix="/v1/items", route_class=JsonRoute, tags=["Items"], responses=ERRORS)

    @router.put("", response_model=schemas.StoredResponse)
    async def put(body: schemas.PutRequest) -> Response:
        """Store items, durably, in place of those with the same ids."""
        return json_response(await editing.put(body))

    @router.delete("", response_model=schemas.DeletedResponse)
    async def delete(body: schemas.DeleteRequest) -> Response:
        """Delete items."""
        return json_response(await editing.delete(body))

    @router.get("/{id:path}", response_model=schemas.ItemResponse)
    async def get(id: str) -> Response:
        """An item."""
        return json_response(await editing.get(id))

    return router


def _administration(service: Service, editing: Editing) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["Administration"], responses=ERRORS)

    @router.post("/admin/swap", response_model=schemas.ModelResponse)
    async def swap(request: Request, body: schemas.SwapRequest) -> Response:
        """Serve other folders, or the same opened again; no request fails meanwhile."""
        if service.settings.api_key is None and not is_loopback(request.client.host if request.client else ""):
            raise ServiceError(
                403, "without an API key only this machine may do that", fix="Set an API key, or send the signal SIGHUP"
            )
        await editing.swap(body.model_dump())
        return json_response(service.describe())

    @router.get("/model", response_model=schemas.ModelResponse)
    async def model() -> Response:
        """What is served, and the limits."""
        return json_response(service.describe())

    return router


def _state(service: Service) -> APIRouter:
    router = APIRouter(tags=["State"])

    @router.get("/health", response_model=schemas.Status)
    async def health() -> Response:
        """Whether the process answers."""
        return json_response({"status": "ok"})

    @router.get("/ready", response_model=schemas.Status, responses={503: {"model": schemas.Status}})
    async def ready() -> Response:
        """Whether requests should be sent here: 503 from SIGTERM on."""
        if service.draining:
            return JSONResponse({"status": "draining"}, 503)
        return json_response({"status": "ready"})

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """The numbers, as Prometheus reads them."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _on_error(request: Request, error: Exception) -> Response:
    match error:
        case ServiceError():
            return error.response()
        case RequestValidationError():
            return from_validation(error)
        case PairstillError():
            return from_library(error)
        case HTTPException(status_code=404):
            return error_response(404, "there is nothing under this path", fix="See /openapi.json")
        case HTTPException(status_code=405):
            return error_response(
                405, f"the path does not take {request.method}", expected=(error.headers or {}).get("Allow"),
                headers=error.headers,
            )  # fmt: skip
        case HTTPException():
            return error_response(error.status_code, str(error.detail), headers=error.headers)
    return error_response(500, "the service failed", fix="See its log")  # which `Guard` writes

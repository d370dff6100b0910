"""Cohere's rerank API, versions 1 and 2: clients and frameworks that speak it need another address, and nothing else.

What a student cannot do is refused; what has no meaning here (`model`, `priority`, `max_tokens_per_doc`, `max_chunks_per_doc`) is
accepted: one model is served, and texts are cut as it was trained.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from pairstill.serving.errors import ServiceError
from pairstill.serving.json_route import JsonRoute, json_response
from pairstill.serving.schemas import ErrorBody
from pairstill.serving.service import Service, best_first, sigmoid

Value = str | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None


class _Body(BaseModel):
    # Names that are unknown here are left alone: clients learn new ones before servers do.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    model: str | None = None
    query: str
    top_n: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = Field(None, ge=1)


class RerankV1(_Body):
    """Body of version 1: documents may be objects, of which `rank_fields` (or `text`) are read, joined by spaces."""

    documents: list[str | dict[str, Value]] = Field(min_length=1)
    rank_fields: list[str] | None = Field(None, min_length=1)
    max_chunks_per_doc: int | None = Field(None, ge=1)


class RerankV2(_Body):
    """Body of version 2."""

    documents: list[str] = Field(min_length=1)
    priority: int | None = None
    relevant_spans: Any = None


class Result(BaseModel):
    """A document; `relevance_score` is the sigmoid of the logit."""

    index: int
    relevance_score: float
    document: dict[str, Value] | None = None


class RerankResponse(BaseModel):
    """Documents, the most relevant first."""

    id: str
    results: list[Result]
    meta: dict[str, Any]


def cohere_router(service: Service) -> APIRouter:
    """The two routes."""
    router = APIRouter(
        route_class=JsonRoute, tags=["Cohere"], responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody}}
    )

    @router.post("/v1/rerank", response_model=RerankResponse)
    async def rerank_v1(body: RerankV1) -> Response:
        """Cohere's rerank, version 1."""
        documents: list[dict[str, Value]] = [one if isinstance(one, dict) else {"text": one} for one in body.documents]
        texts = [_text(one, body.rank_fields, place) for place, one in enumerate(documents)]
        return await _rerank(service, body, texts, documents if body.return_documents else None, "1")

    @router.post("/v2/rerank", response_model=RerankResponse)
    async def rerank_v2(body: RerankV2) -> Response:
        """Cohere's rerank, version 2."""
        if body.relevant_spans is not None:
            raise ServiceError(
                422, "this service finds no spans", field="relevant_spans", fix="Leave out relevant_spans"
            )
        shown: list[dict[str, Value]] = [{"text": one} for one in body.documents]
        return await _rerank(service, body, body.documents, shown if body.return_documents else None, "2")

    return router


async def _rerank(
    service: Service, body: _Body, texts: list[str], shown: Sequence[Mapping[str, Value]] | None, version: str
) -> Response:  # fmt: skip
    logits = await service.rank_texts(body.query, texts)
    scores = sigmoid(logits)
    results: list[dict[str, Any]] = []
    for place in best_first(logits)[: body.top_n].tolist():
        one = {"index": place, "relevance_score": float(scores[place])}
        results.append(one if shown is None else {**one, "document": shown[place]})
    meta = {"api_version": {"version": version}, "billed_units": {"search_units": 0}}
    return json_response({"id": str(uuid.uuid4()), "results": results, "meta": meta})


def _text(document: Mapping[str, Value], fields: list[str] | None, place: int) -> str:
    wanted = fields or ["text"]
    for name in wanted:
        if not isinstance(document.get(name), str | int | float):
            raise ServiceError(
                422, f"the document has no text under {name!r}", field=f"documents.{place}",
                expected="a string, or an object with " + ("all rank_fields" if fields else "'text', or rank_fields"),
            )  # fmt: skip
    return " ".join(str(document[name]) for name in wanted)

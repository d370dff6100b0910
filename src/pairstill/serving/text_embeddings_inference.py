"""The `/rerank` of Hugging Face's text-embeddings-inference, for its clients.

Texts are cut as the student was trained, at their end, whatever `truncate` says.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from pairstill.serving.errors import ServiceError
from pairstill.serving.json_route import JsonRoute, json_response
from pairstill.serving.schemas import ErrorBody
from pairstill.serving.service import Service, best_first, sigmoid


class Rerank(BaseModel):
    """Body."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    query: str
    texts: list[str] = Field(min_length=1)
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["right", "Right", "left", "Left"] = "right"


class Rank(BaseModel):
    """A text; `score` is the sigmoid of the logit, or with `raw_scores` the logit."""

    index: int
    score: float
    text: str | None = None


def text_embeddings_inference_router(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(
        route_class=JsonRoute, tags=["text-embeddings-inference"],
        responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody}},
    )  # fmt: skip

    @router.post("/rerank", response_model=list[Rank])
    async def rerank(body: Rerank) -> Response:
        """Texts in the order of their scores."""
        if body.truncation_direction.lower() == "left":
            raise ServiceError(
                422, "texts are cut at their end", field="truncation_direction", expected="'right'",
                fix="Leave out truncation_direction",
            )  # fmt: skip
        logits = await service.rank_texts(body.query, body.texts)
        scores = logits if body.raw_scores else sigmoid(logits)
        ranks: list[dict[str, Any]] = []
        for place in best_first(logits).tolist():
            one = {"index": place, "score": float(scores[place])}
            ranks.append({**one, "text": body.texts[place]} if body.return_text else one)
        return json_response(ranks)

    return router

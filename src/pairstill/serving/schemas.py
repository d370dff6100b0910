"""Bodies of requests and answers. Strict: a number is no text, an unknown name is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


Id = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]})]
"""An id as stores have them: a text, or a whole number."""


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ByText(_Request):
    """An item by its text."""

    text: str


class ById(_Request):
    """An item by the id under which it is stored."""

    id: Id


def _branch(value: Any) -> str:
    if isinstance(value, str):
        return "a text"
    return "an id" if isinstance(value, dict) and "id" in value else "an object"


Item = Annotated[
    Annotated[str, Tag("a text")] | Annotated[ById, Tag("an id")] | Annotated[ByText, Tag("an object")],
    Discriminator(_branch),
]
"""A text, `{"text": ...}` or `{"id": ...}`."""


class ScoreRequest(_Request):
    """Tuples to score, one item for each field of the student."""

    tuples: list[list[Item]] = Field(min_length=1, examples=[[["red shoes", "Red running shoes"]]])
    timing: bool = False


class RankRequest(_Request):
    """A query, and documents to order by their score."""

    query: Item = Field(examples=["red shoes"])
    documents: list[Item] = Field(min_length=1, examples=[["Red running shoes", {"id": "p7"}]])
    top_k: int | None = Field(None, ge=1)
    return_texts: bool = False
    timing: bool = False


class SearchRequest(_Request):
    """A query that is searched in the stored items."""

    query: str
    top_k: int = Field(10, ge=1)
    candidates: int = Field(100, ge=1)
    return_texts: bool = True
    teacher: bool = False
    exact: bool = False
    timing: bool = True


class EncodeRequest(_Request):
    """Texts of a field, counted from 1."""

    field: int = Field(1, ge=1)
    texts: list[str] = Field(min_length=1)
    timing: bool = False


class NewItem(_Request):
    """An item to store."""

    id: Id
    text: str


class PutRequest(_Request):
    """Items to store; those whose ids are known are replaced."""

    items: list[NewItem] = Field(min_length=1)


class DeleteRequest(_Request):
    """Items to delete."""

    ids: list[Id] = Field(min_length=1)


class SwapRequest(_Request):
    """Folders to serve from now on; what is left out stays, and is opened again where nothing at all is named."""

    student: str | None = None
    store: str | None = None
    search_student: str | None = None
    search_store: str | None = None
    index: str | None = None
    teacher: str | None = None


class Problem(BaseModel):
    """What is wrong, where, what was expected, what to do."""

    message: str
    field: str | None
    expected: str | None
    fix: str | None


class ErrorBody(BaseModel):
    """Body of every answer that is not 200."""

    error: Problem


Timing = dict[str, float]


class ScoreResponse(BaseModel):
    """Logits and probabilities in the order of the tuples: numbers, or lists of them for a student of several classes."""

    scores: list[float] | list[list[float]]
    probabilities: list[float] | list[list[float]]
    model: str
    timing_ms: Timing | None


class Ranked(BaseModel):
    """A document; `score` is the sigmoid of the logit."""

    index: int
    id: str | None
    logit: float
    score: float
    text: str | None


class RankResponse(BaseModel):
    """Documents, the highest score first, equal ones in the order of the request."""

    results: list[Ranked]
    model: str
    timing_ms: Timing | None


class Hit(BaseModel):
    """An item that was found; logit and score are null where the scoring student's store does not have it."""

    id: str
    similarity: float
    logit: float | None
    score: float | None
    text: str | None
    teacher_score: float | None


class SearchResponse(BaseModel):
    """Items, the highest score first."""

    results: list[Hit]
    candidates: int
    recall: float | None
    model: str
    timing_ms: Timing | None


class EncodeResponse(BaseModel):
    """`(texts, entries, width)` vectors, or `(texts, entries)` token ids, each text as long as it is."""

    vectors: list[list[list[float]]] | list[list[int]]
    lengths: list[int]
    model: str
    timing_ms: Timing | None


class StoredResponse(BaseModel):
    """What was stored, durably, and the state of the store that has it."""

    stored: int
    generation: int


class DeletedResponse(BaseModel):
    """What was deleted, and the state of the store that lacks it."""

    deleted: int
    generation: int


class ItemResponse(BaseModel):
    """An item that is stored."""

    id: str
    text: str | None
    generation: int


class StoreState(BaseModel):
    """A store: which field's items, how many, which state."""

    field: int
    items: int
    generation: int


class ModelResponse(BaseModel):
    """What is served."""

    model: str
    name: str
    fingerprint: str
    fields: int
    outputs: int
    max_lengths: list[int]
    precision: str
    stores: list[StoreState]
    search: StoreState | None
    search_model: str | None
    recall: float | None
    teacher: str | None
    limits: dict[str, float]


class Status(BaseModel):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "ready", "draining"]

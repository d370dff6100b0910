"""What can be asked, without HTTP: each method takes a checked request and returns the body of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from pairstill.runtime import RuntimeStudent
from pairstill.serving.batcher import Batcher, Work
from pairstill.serving.errors import ServiceError, unknown_ids
from pairstill.serving.models import Version
from pairstill.serving.observability import Metrics
from pairstill.serving.schemas import ById, ByText, EncodeRequest, Item, RankRequest, ScoreRequest, SearchRequest
from pairstill.serving.settings import ServeSettings
from pairstill.serving.snapshot import ItemSnapshot
from pairstill.serving.work import TEXT_COST, Cells, Computer, EncodeWork, QueryCache, ScoreWork, SearchWork, pair_cost

NO_ROWS = np.empty(0, np.int64)


class Service:
    """Answers requests with the version that is served.

    Args:
        settings: Of the service.
        version: Served first.

    Attributes:
        version: Served now; requests keep the one that they began with.
        draining: Whether it is about to stop.
    """

    def __init__(self, settings: ServeSettings, version: Version) -> None:
        self.settings, self.version, self.draining = settings, version, False
        self.metrics = Metrics(self._store_states, lambda: self.batcher.admitted_pairs, lambda: self.version.number)
        self.batcher = Batcher(Computer(QueryCache(settings.query_cache_bytes)), settings.limits, self.metrics)

    async def score(self, request: ScoreRequest) -> dict[str, Any]:
        """Logits and probabilities of tuples."""
        call = _Call(self)
        student = call.version.student
        self.check_count(len(request.tuples), "tuples")
        for place, row in enumerate(request.tuples):
            if len(row) != student.field_count:
                raise ServiceError(
                    422, f"the tuple has {len(row)} items", field=f"tuples.{place}",
                    expected=f"{student.field_count}, one for each field of {student.name}",
                )  # fmt: skip
        cells, columns = [], []
        for field in range(student.field_count):
            items = [row[field] for row in request.tuples]
            found, column = self._cells(call, field, items, partial(_cell, field))
            cells.append(found)
            columns.append(column)
        work = ScoreWork(student, cells, np.stack(columns, axis=1))
        with self.batcher.admitted(work.cost):
            await call.compute(work)
        logits = work.logits[:, 0] if student.outputs == 1 else work.logits
        probabilities = sigmoid(logits) if student.outputs == 1 else softmax(logits)
        return {
            "scores": logits.tolist(), "probabilities": probabilities.tolist(), "model": self.model_name(call.version),
            "timing_ms": call.timing_ms(request.timing),
        }  # fmt: skip

    async def rank(self, request: RankRequest) -> dict[str, Any]:
        """Documents of a query in the order of their scores."""
        call = _Call(self)
        logits = await self._document_logits(call, request.query, request.documents)
        scores = sigmoid(logits)
        results = []
        for place in best_first(logits)[: request.top_k]:
            document = request.documents[place]
            name = document.id if isinstance(document, ById) else None
            text = document.text if isinstance(document, ByText) else None if isinstance(document, ById) else document
            results.append(
                {"index": int(place), "id": name, "logit": float(logits[place]), "score": float(scores[place]), "text": text}
            )  # fmt: skip
        if not request.return_texts:
            for one in results:
                one["text"] = None
        elif 1 in call.version.stores:
            stored = [one for one in results if one["text"] is None]
            await self._add_texts(call.snapshot(1), stored)
            self._check_shown(stored)
        return {"results": results, "model": self.model_name(call.version), "timing_ms": call.timing_ms(request.timing)}

    async def rank_texts(self, query: str, documents: Sequence[str]) -> np.ndarray:
        """Logits of texts as documents of a query, in their order."""
        return await self._document_logits(_Call(self), query, documents)

    async def search(self, request: SearchRequest) -> dict[str, Any]:
        """The best items of a store."""
        call = _Call(self)
        version = call.version
        if version.search_student is None or version.search_store is None:
            raise ServiceError(
                409, "this service has nothing to search", fix="Start it with --search-student and --search-store"
            )
        if request.teacher and version.teacher is None:
            raise ServiceError(409, "this service has no teacher", field="teacher", fix="Start it with --teacher")
        self.check_text(request.query, "query")
        depth = max(request.top_k, request.candidates)
        if depth > self.settings.limits.candidates:
            raise ServiceError(
                422, f"{depth} candidates are asked for", field="candidates" if request.candidates == depth else "top_k",
                expected=f"at most {self.settings.limits.candidates}",
            )  # fmt: skip
        items = version.search_store.snapshot()
        scorer = version.student if version.student is not version.search_student else None
        search = SearchWork(version.search_student, items, request.query, depth, request.exact)
        cost, found = search.cost, min(depth, len(items))
        if scorer is not None:
            cost += TEXT_COST + found * (pair_cost(scorer) + (0 if 1 in version.stores else TEXT_COST))
        if request.teacher and version.teacher is not None:
            cost += TEXT_COST + min(request.top_k, found) * (pair_cost(version.teacher) + TEXT_COST)
        with self.batcher.admitted(cost):
            await call.compute(search)
            hits = [
                {"id": name, "similarity": float(similarity), "logit": None, "score": None, "text": None, "teacher_score": None}
                for name, similarity in zip(items.ids_at(search.rows), search.similarities, strict=True)
            ]  # fmt: skip
            if scorer is None:
                kind = version.search_student.similarity
                assert kind is not None
                _set_logits(hits, kind.scale * search.similarities + kind.bias)
            else:
                hits = await self._scored(call, scorer, items, request.query, hits)
            hits = hits[: request.top_k]
            if request.return_texts or request.teacher:
                await self._add_texts(items, hits)
            if request.return_texts:
                self._check_shown(hits)
            if request.teacher and version.teacher is not None:
                await self._add_teacher(call, version.teacher, request.query, hits)
        if not request.return_texts:
            for one in hits:
                one["text"] = None
        return {
            "results": hits, "candidates": len(search.rows), "recall": None if request.exact else items.recall,
            "model": self.model_name(version), "timing_ms": call.timing_ms(request.timing),
        }  # fmt: skip

    async def encode(self, request: EncodeRequest) -> dict[str, Any]:
        """What the student keeps of texts."""
        call = _Call(self)
        student, limit = call.version.student, self.settings.limits.encoded_texts
        if request.field > student.field_count:
            raise ServiceError(
                422, f"the field {request.field} is asked for", field="field", expected=f"1 to {student.field_count}"
            )
        if len(request.texts) > limit:
            raise ServiceError(422, f"{len(request.texts)} texts are given", field="texts", expected=f"at most {limit}")
        for place, text in enumerate(request.texts):
            self.check_text(text, f"texts.{place}")
        work = EncodeWork(student, request.field - 1, request.texts)
        with self.batcher.admitted(work.cost):
            await call.compute(work)
        rows = [
            row[:length]
            for part in work.parts.values()
            for row, length in zip(part.vectors, part.lengths.tolist(), strict=True)
        ]
        numbers, most = sum(row.size for row in rows), self.settings.limits.answer_numbers
        if numbers > most and len(rows) > 1:
            raise ServiceError(
                422, f"the answer would have {numbers:,} numbers", field="texts", expected=f"at most {most:,}",
                fix="Ask for fewer texts at a time",
            )  # fmt: skip
        return {
            "vectors": [row.tolist() for row in rows], "lengths": [len(row) for row in rows],
            "model": self.model_name(call.version), "timing_ms": call.timing_ms(request.timing),
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """What is served."""
        version = self.version
        student, search = version.student, version.search_store
        snapshot = None if search is None else search.snapshot()
        return {
            "model": self.model_name(version), "name": student.name, "fingerprint": student.fingerprint,
            "fields": student.field_count, "outputs": student.outputs, "max_lengths": list(student.max_lengths),
            "precision": student.precision,
            "stores": [_state(field, store.snapshot()) for field, store in version.stores.items()],
            "search": None if snapshot is None else _state(1, snapshot),
            "search_model": None if version.search_student is None else version.search_student.name,
            "recall": None if snapshot is None else snapshot.recall,
            "teacher": None if version.teacher is None else version.teacher.name,
            "limits": asdict(self.settings.limits),
        }  # fmt: skip

    def model_name(self, version: Version) -> str:
        """The name, and the beginning of the student's fingerprint, which a swap changes."""
        return f"{self.settings.model_name}@{version.student.fingerprint[:12]}"

    def check_text(self, text: str, field: str) -> None:
        """Refuse a text that is too long.

        Raises:
            ServiceError: 422.
        """
        limit = self.settings.limits.characters
        if len(text) > limit:
            raise ServiceError(
                422, f"the text has {len(text):,} characters", field=field, expected=f"at most {limit:,}"
            )

    def check_count(self, count: int, field: str) -> None:
        """Refuse too many documents, tuples, items or ids.

        Raises:
            ServiceError: 422.
        """
        limit = self.settings.limits.documents
        if count > limit:
            raise ServiceError(422, f"{count:,} {field} are given", field=field, expected=f"at most {limit:,}")

    def _check_shown(self, results: Sequence[dict[str, Any]]) -> None:
        """Refuse an answer of too much text.

        Raises:
            ServiceError: 422.
        """
        characters, most = sum(len(one["text"] or "") for one in results), self.settings.limits.answer_characters
        if characters > most and len(results) > 1:
            raise ServiceError(
                422, f"the texts of the answer have {characters:,} characters", field="top_k",
                expected=f"at most {most:,}", fix="Ask for fewer results, or leave out return_texts",
            )  # fmt: skip

    def _store_states(self) -> list[tuple[str, int, int]]:
        snapshots = [(name, store.snapshot()) for name, store in self.version.named_stores()]
        return [(name, snapshot.generation, len(snapshot)) for name, snapshot in snapshots]

    async def _document_logits(self, call: _Call, query: Item, documents: Sequence[Item]) -> np.ndarray:
        student = call.version.student
        if (student.field_count, student.outputs) != (2, 1):
            raise ServiceError(
                409, f"the {student.name} takes {student.field_count} fields and gives {student.outputs} outputs",
                expected="2 fields and 1 output where documents are ranked", fix="Ask /v1/score",
            )  # fmt: skip
        self.check_count(len(documents), "documents")
        query_cells, _ = self._cells(call, 0, [query], lambda _: "query")
        document_cells, column = self._cells(call, 1, documents, lambda place: f"documents.{place}")
        work = ScoreWork(
            student, [query_cells, document_cells], np.stack([np.zeros(len(column), np.int64), column], axis=1)
        )
        with self.batcher.admitted(work.cost):
            await call.compute(work)
        return work.logits[:, 0]

    def _cells(
        self, call: _Call, field: int, items: Sequence[Item], place: Callable[[int], str]
    ) -> tuple[Cells, np.ndarray]:
        """The distinct items of a field, and where each of `items` is among them."""
        texts: dict[str, int] = {}
        ids: dict[str, int] = {}
        entries = np.empty(len(items), np.int64)
        for number, item in enumerate(items):
            if isinstance(item, ById):
                entries[number] = -1 - ids.setdefault(item.id, len(ids))
                continue
            text = item.text if isinstance(item, ByText) else item
            entries[number] = texts.setdefault(text, len(texts))
            self.check_text(text, place(number))
        if not ids:
            return Cells(list(texts), NO_ROWS, None), entries
        if field not in call.version.stores:
            raise ServiceError(
                422, f"an id is given, and the service has no store of field {field + 1}",
                field=place(int(np.argmax(entries < 0))), expected="a text",
                fix=f"Give the text, or start the service with --store {field + 1}=FOLDER",
            )  # fmt: skip
        snapshot = call.snapshot(field)
        rows = snapshot.lookup(list(ids))
        if (rows < 0).any():
            raise unknown_ids([name for name, row in zip(ids, rows, strict=True) if row < 0], place(0).split(".")[0])
        return Cells(list(texts), rows, snapshot), np.where(entries < 0, len(texts) - 1 - entries, entries)

    async def _scored(
        self, call: _Call, scorer: RuntimeStudent, items: ItemSnapshot, query: str, hits: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Found items in the order of another student's scores; those that its store lacks come last."""
        if 1 in call.version.stores:
            snapshot = call.snapshot(1)
            rows = snapshot.lookup([one["id"] for one in hits])
            known = [one for one, row in zip(hits, rows, strict=True) if row >= 0]
            cells = Cells([], rows[rows >= 0], snapshot)
        else:
            await self._add_texts(items, hits)
            known = [one for one in hits if one["text"] is not None]
            cells = Cells([one["text"] for one in known], NO_ROWS, None)
        if not known:
            return hits
        index = np.stack([np.zeros(len(known), np.int64), np.arange(len(known))], axis=1)
        work = ScoreWork(scorer, [Cells([query], NO_ROWS, None), cells], index)
        await call.compute(work)
        _set_logits(known, work.logits[:, 0])
        return [known[place] for place in best_first(work.logits[:, 0])] + [one for one in hits if one["logit"] is None]

    async def _add_teacher(
        self, call: _Call, teacher: RuntimeStudent, query: str, hits: Sequence[dict[str, Any]]
    ) -> None:
        with_text = [one for one in hits if one["text"] is not None]
        if with_text:
            index = np.stack([np.zeros(len(with_text), np.int64), np.arange(len(with_text))], axis=1)
            texts = [one["text"] for one in with_text]
            work = ScoreWork(teacher, [Cells([query], NO_ROWS, None), Cells(texts, NO_ROWS, None)], index)
            await call.compute(work, stage="teacher")
            for one, score in zip(with_text, sigmoid(work.logits[:, 0]).tolist(), strict=True):
                one["teacher_score"] = score

    async def _add_texts(self, snapshot: ItemSnapshot, results: Sequence[dict[str, Any]]) -> None:
        rows = snapshot.lookup([one["id"] for one in results])
        for one, text in zip(results, await asyncio.to_thread(snapshot.texts, rows), strict=True):
            one["text"] = text


class _Call:
    """One request on its way: the version and states of stores that it began with, its deadline, where its time went."""

    def __init__(self, service: Service) -> None:
        self.version = service.version
        self._batcher = service.batcher
        self._began = time.perf_counter()
        self._deadline = asyncio.get_running_loop().time() + service.settings.limits.timeout_s
        self._snapshots: dict[int, ItemSnapshot] = {}
        self._stage_s: dict[str, float] = {"queue": 0.0}

    def snapshot(self, field: int) -> ItemSnapshot:
        """The state of a field's store, the same for the whole request."""
        if field not in self._snapshots:
            self._snapshots[field] = self.version.stores[field].snapshot()
        return self._snapshots[field]

    async def compute(self, work: Work, stage: str | None = None) -> None:
        """Have a work computed.

        Args:
            work: Of an admitted request.
            stage: What all its time is called; None keeps the names of the stages.
        """
        await self._batcher.run(work, self._deadline)
        self._stage_s["queue"] += work.queue_s
        for name, seconds in work.stage_s.items():
            self._stage_s[stage or name] = self._stage_s.get(stage or name, 0.0) + seconds

    def timing_ms(self, wanted: bool) -> dict[str, float] | None:
        """Milliseconds of each stage so far, and in all."""
        if not wanted:
            return None
        total = {**self._stage_s, "total": time.perf_counter() - self._began}
        return {name: round(1000 * seconds, 3) for name, seconds in total.items()}


def _cell(field: int, row: int) -> str:
    return f"tuples.{row}.{field}"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Of float32 logits, in float64."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64))))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row of float32 logits, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def best_first(logits: np.ndarray) -> np.ndarray:
    """Places in the order of falling logits, equal ones as they came."""
    return np.argsort(-logits, kind="stable")


def _set_logits(results: Sequence[dict[str, Any]], logits: np.ndarray) -> None:
    for one, logit, score in zip(results, logits.tolist(), sigmoid(logits).tolist(), strict=True):
        one["logit"], one["score"] = logit, score


def _state(field: int, snapshot: ItemSnapshot) -> dict[str, int]:
    return {"field": field + 1, "items": len(snapshot), "generation": snapshot.generation}
